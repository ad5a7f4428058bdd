"""Elastic supernets, their training, search, export and benchmark.

Importing this package is cheap; its modules import torch where they need it.
"""
