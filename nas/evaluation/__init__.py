"""Evaluation of subnets with inherited weights: BN recalibration, metrics, workers, and the archive."""
