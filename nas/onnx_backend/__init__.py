"""Writing of ONNX files without torch's exporter, their conversion to other precisions, and their size."""
