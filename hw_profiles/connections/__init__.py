"""Ways to reach a device: one small object for each, kept in the device's profile.

A new way is a file beside this one and a line in `hw_profiles.connections.registry`.
"""
