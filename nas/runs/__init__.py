"""A run on disk: its folder and files, lock, data record and trained weights."""
