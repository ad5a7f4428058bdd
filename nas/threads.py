"""Threads that compute with one core each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class Map(Protocol):
    """Calls a function with each item, like the built-in `map`, possibly in parallel."""

    def __call__(self, function: Callable[[Item], Result], items: Iterable[Item], /) -> Iterator[Result]:
        """The results in the order of the items."""


@contextmanager
def one_core_threads(n: int) -> Iterator[Map]:
    """A `Map` with `n` threads that use one core each; with `n` = 1, the thread of the caller is used.

    Inside the block, the torch operations of the caller use one core too.
    """
    before = torch.get_num_threads()  # a setting that threads inherit when they start
    torch.set_num_threads(1)
    try:
        if n == 1:
            yield map
            return
        pool = ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(1,))
        try:
            yield pool.map
        finally:
            pool.shutdown(cancel_futures=True)
    finally:
        torch.set_num_threads(before)
