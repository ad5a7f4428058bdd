"""How a supernet is trained: what a recipe may say, and those that are shipped."""
