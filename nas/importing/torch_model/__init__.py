"""Conversion of torch models to supernets."""
