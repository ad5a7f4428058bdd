"""Recognizes errors that are raised when memory cannot be allocated."""

from __future__ import annotations

_MESSAGES = ("can't allocate memory", "CUDA out of memory", "Failed to allocate memory")
"""Messages of torch on CPUs and GPUs and of ONNX Runtime, whose errors have no exception type of their
own."""


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether Python, torch or ONNX Runtime could not allocate memory."""
    return isinstance(error, MemoryError) or any(message in str(error) for message in _MESSAGES)
