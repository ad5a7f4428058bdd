"""Devices and their measured latency."""
