"""PRISM: neural-architecture search by submission.

Serves miners' model projects: intake, review, evaluation, attribution of architecture and training, holds, validator
assignments, weights. Table `prism`: submissions, queue, leases, assignments, families, variants, holds, the similarity
index. Bucket: projects under their hash, and what review read in them. Rules: nothing claims by itself; the first
submitted is the original; strangers' code runs in the sandbox alone; score, status and attribution are one transaction.

The speciality `archive` is split along the pipeline, since each part has its own laws: `archive` (bytes to files),
`project` (manifest and components), `inspection` (what source may say), `similarity` (who was first), `attribution`
(who owns what). The store is split by what it keeps: `store` (submissions, queue, leases), `store_review` (index and
objects), `store_families` (families, variants, holds, weights), `store_commit` (the transaction that ends one).
"""
