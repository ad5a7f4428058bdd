"""Execution providers of ONNX Runtime."""

from __future__ import annotations

CPU = "CPUExecutionProvider"
NVIDIA = ("CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider")
# ONNX Runtime's name for the memory of an accelerator; the other providers read the memory of the host.
MEMORY = {
    **dict.fromkeys(NVIDIA, "cuda"),
    "DmlExecutionProvider": "dml",
    "CANNExecutionProvider": "cann",
}
