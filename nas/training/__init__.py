"""Supernet training; the entry point is `nas.training.train`."""
