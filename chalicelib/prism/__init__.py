"""PRISM: neural-architecture search by submission.

Serves miners' model projects: intake, review, attribution of architecture and training, holds, assignments, weights.
"""
