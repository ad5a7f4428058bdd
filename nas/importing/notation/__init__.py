"""Architectures in the notations of published tools, so that subnets found with those can be used here.

Neither notation names what a space fixes. Entries for blocks beyond a stage's depth have no meaning.
"""
