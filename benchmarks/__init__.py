"""Benchmarks and comparisons: the commands that produce the figures of the README."""
