"""What is timed on a device, and what becomes of the times; `hw_profiles` keeps them."""
