"""Chosen subnets as files, checked against torch in the precision of the device."""
