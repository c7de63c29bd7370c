"""Leoma: samples of validators, stake-weighted verdicts, ranks and weights of an image-to-video subnet (netuid 99).

Table `leoma`: blacklist, miners, validators, samples, verdicts, snapshots, counters. Bucket: the samples bucket, with
clips and evaluation results. Rules: stakes count as they are now, a tie fails, readers only ever see whole snapshots.
"""
