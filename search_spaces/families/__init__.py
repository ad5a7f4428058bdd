"""Families of spaces: MBConv, ResNet-D, hybrid, vision transformer, and spaces made from networks."""
