"""Leoma: samples of validators, stake-weighted verdicts, ranks and weights of an image-to-video subnet (netuid 99).

Table `leoma`: blacklist, validators, batches of samples and the sheets that point into them, task sheets, miners'
blocks, totals, snapshots. Buckets: the samples bucket with clips and evaluation results, the texts bucket with long
artifacts.

`routes_samples` takes batches in and reads them back, `contracts_sheets` packs them, `tasks_fold` turns them into what
readers see; `ranking` decides, `domain_views` words the answers. Rules: stakes count as they are now, a tie fails, a
batch counts when its sheets point to it, readers only ever see whole snapshots.
"""
