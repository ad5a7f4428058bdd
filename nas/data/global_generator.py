"""Temporary seeding of torch's global random generators, for code that draws from them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_LOCK = threading.Lock()
"""Held while the generators are seeded, because subnets are evaluated in several threads."""


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's global generators inside the block, and restore their states afterwards.

    Args:
        seed: the seed.
        device: device whose generator is seeded in addition to that of the CPU.
    """
    generators = [torch.default_generator]
    if device is not None and device.type == "cuda":
        torch.cuda.init()
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    if device is not None and device.type == "mps":
        generators.append(torch.mps._get_default_mps_generator())
    with _LOCK:  # torch.manual_seed would also seed the generators of all other devices
        states = [generator.get_state() for generator in generators]
        try:
            for generator in generators:
                generator.manual_seed(seed)
            yield
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)
