"""The threads and the device that evaluate subnets, and their passes over images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nas.data.batches import ImageSample
from nas.data.dataset import Dataset, SplitName
from nas.data.shared_images import normalized, shared_pixels
from nas.threads import Item, Map, Result, one_core_threads
from nas.torch_backend.allocator import limit_primitive_cache
from nas.torch_backend.precision import Computation, full_float32
from search_spaces import Block
from search_spaces.memory import BYTES_PER_NUMBER
from search_spaces.tensors import FP32

CPU_TENSOR_BYTES = 32 * 2**20
"""Largest activation on a CPU. Larger ones do not stay in caches, and glibc returns their memory to the
kernel."""
ACCELERATOR_TENSOR_BYTES = 2**30
"""Largest activation on an accelerator."""


class SharedImages(NamedTuple):
    """Images in one resolution, on the device."""

    indices: NDArray[np.int64]
    """Indices of the images in their split, shape (n,)."""
    size: int
    """Side in pixels."""
    images: Tensor
    """float32 (n, channels, size, size), normalized."""


@dataclass(frozen=True)
class Engine:
    """Threads and a device."""

    computation: Computation
    threads: int
    read: Map
    """As `map`, but calls the function in the threads."""

    @property
    def on_cpu(self) -> bool:
        """Whether networks are computed on the CPU."""
        return self.computation.device.type == "cpu"

    @property
    def compute(self) -> Map:
        """As `map`, for functions that compute networks in the threads or on the accelerator."""
        return self.read if self.on_cpu else _launch

    def part_size(self, network: Block) -> int:
        """Number of images that a network computes at a time; depends only on the network and the device."""
        limit = CPU_TENSOR_BYTES if self.on_cpu else ACCELERATOR_TENSOR_BYTES
        specs = (*network.inputs, *(node.output for node in network.nodes))
        return max(1, limit // (BYTES_PER_NUMBER[FP32] * max(spec.numel for spec in specs)))

    def shared_images(
        self,
        dataset: Dataset,
        split: SplitName,
        samples: Sequence[ImageSample],
        sizes: Sequence[int],
        *,
        augmented: bool = False,
    ) -> Iterator[SharedImages]:
        """One pass over images of a split, each sample in all sizes; each image is decoded once.

        Raises:
            ValueError: an image cannot be read, or the data set raises an error.
        """
        source = dataset.split(split)
        read = partial(shared_pixels, dataset, source, resolutions=sizes, augmented=augmented, run=self.read)
        pixels = map(read, samples) if self.on_cpu else _read_ahead(read, samples)
        for sample, by_size in zip(samples, pixels, strict=True):
            for size in sizes:
                images = normalized(by_size.pop(size), dataset.preprocess, self.computation.device, self.read)
                yield SharedImages(sample.indices, size, images)
                del images  # before the next size is normalized


@contextmanager
def open_engine(computation: Computation, threads: int) -> Iterator[Engine]:
    """An engine; inside the block, the torch operations of the caller use one core."""
    limit_primitive_cache()
    with full_float32(), one_core_threads(threads) as run:
        yield Engine(computation, threads, run)


def _launch(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Start all computations before the first result is read, so that the accelerator is never idle."""
    return iter([function(item) for item in items])


def _read_ahead(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Compute the next result in another thread while the caller uses the last one."""
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(function, item) for item in items[:1]]
        for item in items[1:]:
            waiting.append(pool.submit(function, item))
            yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()
