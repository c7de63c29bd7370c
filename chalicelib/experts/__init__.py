"""Experts: mixture-of-experts weight delivery.

Serves expert-group slices of a model by presigned URL, the full model, checkpoint submissions and phases.
"""
