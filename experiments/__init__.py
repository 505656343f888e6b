"""Experiments on the open questions of the paper, run from a checkout: ``python -m experiments.ablation``."""
