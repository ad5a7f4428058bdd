"""Measuring on a device: the runner, its bundles and its results."""
