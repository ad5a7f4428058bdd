"""Latency models: a table of measured blocks, a layer-wise fit, and the choice between them."""
