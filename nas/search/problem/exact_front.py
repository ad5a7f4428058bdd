"""The whole Pareto front of quantities that add up over slots, by dynamic programming.

Slots are decided one after the other. If the remaining slots can add the same values to two partial subnets,
both are in one state. Of all sums in a state, only the non-dominated ones can become part of the front.

Two partial subnets are in one state if they agree in all choices that later slots read: the width at the end
of a stage, the depth of a stage until its last block, and the resolution throughout. States that differ only
in choices without effect on later slots are merged, for example states in which INT8 began at different
slots.

Floating-point addition is monotone, so this holds for rounded sums as well, as long as all sums are added in
the order of the slots. The front is equal to the front of a full enumeration to the last bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from moocore import is_nondominated
from numpy.typing import NDArray

from search_spaces import Genomes, Space

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
Indices = NDArray[np.intp]

MAX_CANDIDATES = 10_000_000
"""Partial subnets of one state that are compared at once; more would not fit into memory."""
ROUNDING = 1e-9
"""Share of a limit by which a partial sum may exceed it, because the other slots are added in another
order."""


@runtime_checkable
class Additive(Protocol):
    """A quantity of subnets that adds up over slots."""

    @property
    def offset(self) -> float:
        """A constant that is added to every total."""

    def per_slot(self, genomes: Genomes) -> Matrix:
        """The part of each slot, shape (n, n_slots), for genomes of shape (n, n_genes); 0 for an empty
        slot."""

    def __call__(self, genomes: Genomes) -> Vector:
        """The total: its parts added up in the order of the slots, then the offset; shape (n,)."""


@dataclass(frozen=True)
class Negated:
    """The negative of a quantity, to minimise a quantity of which more is better."""

    quantity: Additive

    @property
    def offset(self) -> float:
        """See `Additive`."""
        return -self.quantity.offset

    def per_slot(self, genomes: Genomes) -> Matrix:
        """See `Additive`."""
        return -self.quantity.per_slot(genomes)

    def __call__(self, genomes: Genomes) -> Vector:
        """See `Additive`."""
        return -self.quantity(genomes)


@dataclass(frozen=True)
class ExactFront:
    """Every non-dominated vector of objectives in a space, each with one subnet that has these values."""

    genomes: Genomes
    """Canonical, shape (n, n_genes), sorted by the first objective."""
    minimised: Matrix
    """Shape (n, n_objectives)."""
    error: Vector
    """By how much at most a subnet can be better than the front in each objective, shape (n_objectives,); 0
    if nothing was rounded."""

    @property
    def exact(self) -> bool:
        """Whether no subnet of the space is better than the front."""
        return not self.error.any()


def exact_front(
    space: Space,
    objectives: Sequence[Additive],
    limits: Sequence[tuple[Additive, float]] = (),
    *,
    tolerance: float = 0.0,
) -> ExactFront:
    """The Pareto front of a whole space.

    Args:
        space: any space; the value of a slot may depend on every choice that the slot reads.
        objectives: quantities to minimise.
        limits: quantities and their upper limits.
        tolerance: allowed error as a share of each objective's range. Above 0, sums are rounded before they
            are compared, for fronts that would otherwise be too large.

    Returns:
        The front; without rows if no subnet keeps the limits.

    Raises:
        ValueError: the front is too large for `tolerance`.
    """
    extra = {quantity: None for quantity, _ in limits if quantity not in objectives}
    quantities = [*objectives, *extra]
    steps = _merged(_steps(space, quantities))
    pruning = _Pruning.of(steps, quantities, limits, len(objectives), tolerance)
    layers = [_Layer({0: slice(0, 1)}, np.zeros((1, len(quantities))), *_NOTHING)]
    for i, step in enumerate(steps):
        layers.append(_advance(layers[-1], step, pruning, i))
    genomes = _trace(space, steps, layers)
    minimised = np.stack([quantity(genomes) for quantity in objectives], axis=1)
    kept = np.ones(len(genomes), dtype=np.bool_)
    for quantity, bound in limits:
        kept &= quantity(genomes) <= bound
    rows = np.flatnonzero(kept)
    rows = rows[nondominated_rows(minimised[rows])]
    rows = rows[np.lexsort(minimised[rows].T[::-1])]
    return ExactFront(genomes[rows], minimised[rows], pruning.error[: len(objectives)])


def nondominated_rows(points: Matrix) -> Indices:
    """Indices of the rows of `points` (n, m) that no other row dominates; equal rows are represented by
    one."""
    order = np.lexsort(points.T[::-1])
    if points.shape[1] == 1:
        return order[:1]
    if points.shape[1] > 2:
        kept: Indices = np.flatnonzero(is_nondominated(points, keep_weakly=False))
        return kept
    last = points[order, 1]
    best_before = np.concatenate([[np.inf], np.minimum.accumulate(last)])[:-1]
    first: Indices = order[last < best_before]
    return first


class _Step(NamedTuple):
    """One slot: the assignments of its genes, their values, and the states that they connect."""

    rows: Genomes
    """Canonical assignments of the genes that are known after the slot, all others 0, shape (r, n_genes)."""
    values: Matrix
    """The slot's part in each quantity, shape (r, n_quantities)."""
    new: list[int]
    """Columns of the genes that the slot decides."""
    before: Indices
    """State in which each row starts."""
    after: Indices
    """State in which each row ends."""


class _Layer(NamedTuple):
    """The non-dominated partial sums of all states after a slot."""

    states: dict[int, slice]
    sums: Matrix
    parent: Indices
    """Row of the previous layer from which each sum was reached."""
    row: Indices
    """Row of the step by which each sum was reached."""


_NOTHING = np.zeros(1, dtype=np.intp), np.zeros(1, dtype=np.intp)


def _steps(space: Space, quantities: Sequence[Additive]) -> list[_Step]:
    """The slots in order, each with every assignment of the known genes that this or a later slot reads.

    A state is an assignment of the genes that later slots read; state 0 is the one without such genes.
    """
    numbers: dict[bytes, int] = {b"": 0}
    steps = []
    scopes = [space.columns([*slot.choices, *([slot.depth] if slot.depth else [])]) for slot in space.slots]
    last_read = {column: s for s, scope in enumerate(scopes) for column in scope}
    live: list[int] = []
    for s, scope in enumerate(scopes):
        new = [column for column in scope if column not in live]
        known = live + new
        rows = _assignments(space, known)
        parts = [quantity.per_slot(rows)[:, s] for quantity in quantities]
        for quantity, part in zip(quantities, parts, strict=True):
            if np.isnan(part).any():
                quantity(rows[np.isnan(part)])  # a latency table raises an error with the blocks it lacks
        after = [column for column in known if last_read[column] > s]
        states = [
            np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in rows[:, columns]])
            for columns in (live, after)
        ]
        steps.append(_Step(rows, np.stack(parts, axis=1), new, *states))
        live = after
    return steps


def _merged(steps: Sequence[_Step]) -> list[_Step]:
    """The steps, with all states that have the same future merged into one.

    The future of a state is the set of values that later slots can add. Of the rows that start in merged
    states, only the rows of one of these states are kept.
    """
    merged, classes = list[_Step](), {0: 0}
    for step in reversed(steps):
        known = np.array([after in classes for after in step.after.tolist()])  # other states lead nowhere
        after = np.array([classes.get(after, 0) for after in step.after.tolist()])
        future = np.column_stack([step.rows[:, step.new], after, step.values.view(np.int64)])
        starts: dict[int, list[int]] = {}
        for row in np.flatnonzero(known).tolist():
            starts.setdefault(int(step.before[row]), []).append(row)
        numbers: dict[bytes, int] = {}
        classes, kept = {}, list[int]()
        for state, rows in starts.items():
            name = future[rows].tobytes()
            kept += rows if name not in numbers else []
            classes[state] = numbers.setdefault(name, len(numbers))
        before = np.array([classes[state] for state in step.before[kept].tolist()])
        merged.append(_Step(step.rows[kept], step.values[kept], step.new, before, after[kept]))
    return merged[::-1]


def _assignments(space: Space, columns: Sequence[int]) -> Genomes:
    """Every combination of these genes that is canonical, all others 0."""
    options = list(itertools.product(*(range(space.n_options[column]) for column in columns)))
    rows = np.zeros((len(options), len(space.genes)), dtype=np.int64)
    rows[:, columns] = np.array(options, dtype=np.int64).reshape(len(options), len(columns))
    canonical: Genomes = rows[(space.canonical(rows) == rows).all(axis=1)]
    return canonical


@dataclass(frozen=True)
class _Pruning:
    """Removes partial sums that cannot become part of the front."""

    at_least: Matrix
    """Smallest sum that the slots after each slot add to each quantity, shape (n_slots, n_quantities)."""
    at_most: Matrix
    """Largest such sum, shape (n_slots, n_quantities)."""
    bound: Vector
    """Upper limit of the sum of each quantity; infinite where there is no limit."""
    clipped: NDArray[np.bool_]
    """Quantities that are not objectives; once their limit is certain to be kept, their values are
    ignored."""
    box: Vector
    """Width of the boxes to which sums of each quantity are rounded; 0: no rounding."""

    @classmethod
    def of(
        cls,
        steps: Sequence[_Step],
        quantities: Sequence[Additive],
        limits: Sequence[tuple[Additive, float]],
        n_objectives: int,
        tolerance: float,
    ) -> _Pruning:
        low = np.array([step.values.min(axis=0) for step in steps])
        high = np.array([step.values.max(axis=0) for step in steps])
        bound = np.full(len(quantities), np.inf)
        for quantity, limit in limits:
            place = quantities.index(quantity)
            bound[place] = min(bound[place], limit - quantity.offset)
        clipped = np.arange(len(quantities)) >= n_objectives
        box = np.where(clipped, 0, tolerance * (high - low).sum(axis=0) / len(steps))
        return cls(_after(low), _after(high), bound, clipped, box)

    @property
    def error(self) -> Vector:
        """Largest error of each quantity by rounding: one box for every slot."""
        return self.box * len(self.at_least)

    def __call__(self, sums: Matrix, slot: int) -> Indices:
        """Rows of the partial sums (n, n_quantities) after `slot` that are kept."""
        slack = ROUNDING * np.abs(np.where(np.isfinite(self.bound), self.bound, 0))
        possible = (sums + self.at_least[slot] <= self.bound + slack).all(axis=1)
        rows = np.flatnonzero(possible)
        certain = self.bound - slack - self.at_most[slot]
        compared = np.where(self.clipped, np.maximum(sums[rows], certain), sums[rows])
        rounded = np.where(self.box > 0, np.floor(compared / np.where(self.box > 0, self.box, 1)), compared)
        kept: Indices = rows[nondominated_rows(rounded)]
        return kept


def _after(parts: Matrix) -> Matrix:
    """For each row, the sum of all later rows."""
    ahead: Matrix = parts.sum(axis=0) - np.cumsum(parts, axis=0)
    return ahead


def _advance(layer: _Layer, step: _Step, pruning: _Pruning, slot: int) -> _Layer:
    """The layer after one more slot."""
    reached: dict[int, list[int]] = {}
    for row, (before, after) in enumerate(zip(step.before.tolist(), step.after.tolist(), strict=True)):
        if before in layer.states:
            reached.setdefault(after, []).append(row)
    states, parts, end = {}, [], 0
    for state, rows in reached.items():
        starts = [layer.states[step.before[row]] for row in rows]
        sizes = [start.stop - start.start for start in starts]
        if sum(sizes) > MAX_CANDIDATES:
            raise ValueError(
                f"the exact front has more than {MAX_CANDIDATES:,} candidates after slot {slot + 1}; "
                f"give fewer objectives and limits, or a tolerance"
            )
        sums = np.concatenate([layer.sums[s] + step.values[row] for s, row in zip(starts, rows, strict=True)])
        kept = pruning(sums, slot)
        parents = np.concatenate([np.arange(start.start, start.stop) for start in starts])
        if len(kept):
            states[state] = slice(end, end + len(kept))
            parts.append((sums[kept], parents[kept], np.repeat(rows, sizes)[kept]))
            end += len(kept)
    if not parts:
        return _Layer({}, layer.sums[:0], *(nothing[:0] for nothing in _NOTHING))
    return _Layer(states, *(np.concatenate(column) for column in zip(*parts, strict=True)))


def _trace(space: Space, steps: Sequence[_Step], layers: Sequence[_Layer]) -> Genomes:
    """The genomes of the last layer, found by following the parents back to the first slot."""
    at = np.arange(len(layers[-1].sums))
    genomes = np.zeros((len(at), len(space.genes)), dtype=np.int64)
    for step, layer in zip(reversed(steps), reversed(layers), strict=False):  # the first layer has no step
        genomes[:, step.new] = step.rows[layer.row[at]][:, step.new]
        at = layer.parent[at]
    return genomes
