"""Benchmarks: what costs how much, as ratios within one run."""
