"""Slicing rules of elastic weights: one rule for each axis.

A rule defines the ranges of active indices. A single range is a view of the weight; several ranges are
copied.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

Ranges = tuple[tuple[int, int], ...]
"""Half-open ranges of indices, in order."""


class Axis(ABC):
    """One axis of a weight."""

    __slots__ = ()

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of active indices."""

    @property
    def extent(self) -> int:
        """Smallest size of a full axis that contains the active indices."""
        return self.size

    @abstractmethod
    def ranges(self, full: int) -> Ranges:
        """Ranges of the active indices on an axis of size `full`."""


@dataclass(frozen=True, slots=True)
class Prefix(Axis):
    """The first `n` indices: channels, or attention heads if `n` is a multiple of the head size."""

    n: int

    @property
    def size(self) -> int:
        """See `Axis`."""
        return self.n

    def ranges(self, full: int) -> Ranges:
        """See `Axis`."""
        return ((0, self.n),)


@dataclass(frozen=True, slots=True)
class Index(Axis):
    """One index: the weights of one option, on an axis with separate weights for each option."""

    index: int

    @property
    def size(self) -> int:
        """See `Axis`."""
        return 1

    @property
    def extent(self) -> int:
        """See `Axis`."""
        return self.index + 1

    def ranges(self, full: int) -> Ranges:
        """See `Axis`."""
        return ((self.index, self.index + 1),)


@dataclass(frozen=True, slots=True)
class Centre(Axis):
    """The `n` indices in the middle: a smaller kernel inside a larger one."""

    n: int

    @property
    def size(self) -> int:
        """See `Axis`."""
        return self.n

    def ranges(self, full: int) -> Ranges:
        """See `Axis`."""
        start = (full - self.n) // 2
        return ((start, start + self.n),)


@dataclass(frozen=True, slots=True)
class Groups(Axis):
    """The first `n` indices of each of `count` equal groups: query, key and value of fused attention."""

    count: int
    n: int

    @property
    def size(self) -> int:
        """See `Axis`."""
        return self.count * self.n

    def ranges(self, full: int) -> Ranges:
        """See `Axis`."""
        if full == self.size:
            return ((0, full),)
        step = full // self.count
        return tuple((i * step, i * step + self.n) for i in range(self.count))


@dataclass(frozen=True, slots=True)
class Segments(Axis):
    """A list of ranges: the parts of a concatenation of elastic tensors."""

    parts: Ranges

    @property
    def size(self) -> int:
        """See `Axis`."""
        return sum(end - start for start, end in self.parts)

    def ranges(self, full: int) -> Ranges:
        """See `Axis`."""
        return self.parts


@dataclass(frozen=True, slots=True)
class Parameter:
    """A named tensor of an operator."""

    axes: tuple[Axis, ...]
    learned: bool = True
    """Whether the tensor is trained by gradients; otherwise it is a statistic."""
    decayed: bool = True
    """Whether weight decay may shrink it, if it has more than one axis."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return tuple(axis.size for axis in self.axes)

    @property
    def full_shape(self) -> tuple[int, ...]:
        """Smallest shape of a full weight that contains the active indices."""
        return tuple(axis.extent for axis in self.axes)

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)
