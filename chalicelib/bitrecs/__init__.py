"""Bitrecs: artifact submissions and their evaluation.

Serves signed artifact submissions checked against chain and gist, similarity, the evaluation queue, scores and weights.
Table `bitrecs`: agents, locks, nonces, queues, sessions, evaluations, runs, scores, what operators set. Bucket:
artifacts as they were accepted, logs, snapshots, the similarity index. Rules: one transaction accepts, one claims, one
settles; a session is as alive as its last heartbeat; nobody reads a prompt before its agent is terminal.
"""
