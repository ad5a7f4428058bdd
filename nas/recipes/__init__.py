"""Training recipes: their keys, and the shipped recipes."""
