"""Settings of the memory of this process: C memory allocator and oneDNN."""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST_MMAP_THRESHOLD = 32 * 1024 * 1024
_LARGEST_TRIM_THRESHOLD = 2**31 - 1
_CACHE_CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
CACHED_PRIMITIVES = 256
"""Enough for the convolutions of two networks. oneDNN's default is 1024."""


def keep_freed_memory() -> None:
    """Let glibc reuse the memory of freed tensors.

    By default, glibc returns large blocks to the kernel, and the kernel zeroes each page when it is allocated
    again. This takes a sixth of the time of a training step on images of 24 pixels. On systems without glibc,
    this function has no effect.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST_TRIM_THRESHOLD)


def limit_primitive_cache() -> None:
    """Let oneDNN keep the generated code of fewer operations, before its first operation in this process.

    Each subnet has convolutions of other shapes, whose code is of no use for the next subnet. On a processor
    with AVX-512, the evaluation of 12 subnets took 0.5 GB less. A value that the user has set is kept.
    """
    os.environ.setdefault(_CACHE_CAPACITY, str(CACHED_PRIMITIVES))
