"""Leoma: samples of validators, stake-weighted verdicts, ranks and weights of an image-to-video subnet (netuid 99).

Table `leoma`: blacklist, validators, batches of samples and the sheets that point into them, task sheets, miners'
blocks, totals, snapshots. Buckets: the samples bucket with clips and evaluation results, the texts bucket with long
artifacts.

`samples` takes batches in and reads them back, `sheets` packs them, `fold` turns them into what readers see; `ranking`
decides, `views` words the answers. Rules: stakes count as they are now, a tie fails, a batch counts when its sheets
point to it, readers only ever see whole snapshots.
"""
