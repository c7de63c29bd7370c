"""Experts: mixture-of-experts weight delivery.

Serves expert-group slices of a mixture-of-experts model by presigned URL, the full model, checkpoint submissions, phases.
"""
