"""Conversion of architectures from and to the notations of published tools.

A notation has no entries for choices with one option. Entries of blocks beyond the depth of a stage are
ignored.
"""
