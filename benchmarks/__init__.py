"""Benchmarks: what a review costs, step by step and under load."""
