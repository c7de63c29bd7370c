"""Bitrecs: artifact submissions and their evaluation.

Serves signed artifact submissions checked against chain and gist, similarity, the evaluation queue, scores and weights.
"""
