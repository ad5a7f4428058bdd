"""Subnets with inherited weights: BN recalibration, metrics, workers, and the archive of results."""
