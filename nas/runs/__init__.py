"""A run on disk: its folder and files, its lock, the data it was made with and its trained weights."""
