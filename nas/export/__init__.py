"""Export of chosen subnets to files, checked against torch in the precision of the device."""
