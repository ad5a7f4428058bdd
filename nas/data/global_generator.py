"""Borrowing torch's global random generators for code that draws from nowhere else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_LOCK = threading.Lock()
"""Held meanwhile: subnets are evaluated in several threads."""


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Torch's global generators, seeded here and afterwards as they were before.

    Args:
        seed: decides what is drawn.
        device: whose generator is borrowed beside the CPU's.
    """
    devices = [device] if device is not None and device.type == "cuda" else []
    with _LOCK, torch.random.fork_rng(devices=devices):
        torch.random.manual_seed(seed)
        yield
