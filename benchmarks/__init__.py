"""Side-by-side measurements: the commands behind the figures of the README."""
