"""Benchmarks: run from a checkout, each prints ratios measured in one run."""
