"""Elastic layers, the supernet, and the static networks extracted from it."""
