"""Measurements on devices: profiles for latency prediction, benchmarks of files, latencies of subnets."""
