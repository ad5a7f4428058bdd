"""ONNX files without a detour over torch: graphs, their precision and their size."""
