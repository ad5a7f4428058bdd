"""A run on disk: its folder and files, its lock, its data record and its trained weights."""
