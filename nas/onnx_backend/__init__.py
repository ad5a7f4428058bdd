"""Writes ONNX files without torch's exporter, converts them to other precisions, and predicts their size."""
