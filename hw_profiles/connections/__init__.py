"""Connections to devices: one small class for each kind, stored in the profile of a device.

A new kind is a module in this folder and an entry in `hw_profiles.connections.registry`.
"""
