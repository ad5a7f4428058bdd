"""Families of spaces: MBConv networks and bottleneck ResNets."""
