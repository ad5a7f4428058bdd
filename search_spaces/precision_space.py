"""Spaces with the precision of each part of the network as a choice.

Any space can be converted to such a space: choices of precision are added, and the blocks are those of the
original space in the precision that these choices set. A block that reads a tensor of another precision
begins with a border, a `Convert` node for each input. The first block reads the images in its own precision;
the cost of converting the images is part of the cost of this block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, Self, get_args

from search_spaces.arch import Arch, Value
from search_spaces.block_precision import ends_in_float, in_precision, precision_of
from search_spaces.choices import Choice, listed
from search_spaces.graph import Block
from search_spaces.space import Slot, Space
from search_spaces.tensors import INT8, Precision

Grain = Literal["from", "stage", "block"]
"""The parts of a network whose precision is chosen separately. `from`: one slot, before which the network is
in floating point and from which on it is in INT8; `stage`: the stem, each stage and the head; `block`: every
slot."""
GRAINS: tuple[Grain, ...] = get_args(Grain)
INT8_FROM = "int8_from"
"""Name of the choice of the grain `from`: the index of the first slot in INT8. If it is 0, the whole network
is in INT8; if it is the number of slots, no part is."""
INT8_BITS, FLOAT_BITS = 8, 32
"""Options of the other grains. A floating-point part has the floating-point precision of the profile."""


def with_precision(space: Space, grain: Grain) -> PrecisionSpace:
    """The space with the precision of these parts as choices; choices of another grain are replaced."""
    return PrecisionSpace(base_space(space), grain)


def base_space(space: Space) -> Space:
    """The space without the precision as a choice."""
    return space.base if isinstance(space, PrecisionSpace) else space


def space_of(space: Space, arch: Arch) -> Space:
    """The space that an arch belongs to: the base space, or this space with choices of precision.

    Args:
        space: a space, with or without the precision as a choice.
        arch: an arch of the base space, with or without choices of precision of any grain.

    Returns:
        the base space, if the arch has no choices of precision.
    """
    base = base_space(space)
    if arch.keys() <= base.choices.keys():
        return base
    return next((own for own in _all_grains(base) if arch.keys() <= own.choices.keys()), space)


def float_arch(space: Space, arch: Arch) -> Arch:
    """The arch without its choices of precision, if it has any; arguments as for `space_of`."""
    own = space_of(space, arch)
    return own.base_arch(arch) if isinstance(own, PrecisionSpace) else arch


@lru_cache(maxsize=8)
def _all_grains(base: Space) -> tuple[PrecisionSpace, ...]:
    return tuple(PrecisionSpace(base, grain) for grain in GRAINS)


class PrecisionSpace(Space):
    """A space whose archs also choose the precision of their parts.

    Args:
        base: the space without these choices.
        grain: the parts whose precision is chosen separately.
    """

    def __init__(self, base: Space, grain: Grain) -> None:
        self.base, self.grain = base, grain
        precisions = _Precisions(base.slots, base.choices, grain)
        super().__init__(
            base.config,
            [*base.choices.values(), *precisions.choices],
            [precisions.slot(i) for i in range(len(base.slots))],
        )
        self.source = base.source
        self._precision_names = frozenset(choice.name for choice in precisions.choices)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.base, self.grain), {"source": self.source}

    def stages(self) -> list[dict[str, str]]:
        """See `Space.stages`."""
        rows = self.base.stages()
        options = {
            choice.part: listed(choice.options) for choice in self.choices.values() if choice.kind == "bits"
        }
        everywhere = options.get(INT8_FROM)
        return [row | {"bits": everywhere or options.get(row["stage"], "")} for row in rows]

    def base_arch(self, arch: Arch) -> Arch:
        """`arch` without its choices of precision; both have the same weights and floating-point accuracy."""
        return Arch({name: value for name, value in arch.items() if name not in self._precision_names})

    def uniform(self, arch: Arch, precision: Precision) -> Arch:
        """An arch of the base space with one precision everywhere, as an arch of this space."""
        values = {
            choice.name: choice.options[0 if precision == INT8 else -1]
            for choice in self.choices.values()
            if choice.name in self._precision_names
        }
        return self.arch({**arch, **values})

    def with_one_border(self, arch: Arch) -> list[Arch]:
        """An arch of the base space in one precision, and with one border at each place, as archs of this
        space."""
        if self.grain == "from":
            return [self.arch({**arch, INT8_FROM: start}) for start in self.choices[INT8_FROM].options]
        names = [name for name in self.choices if name in self._precision_names]
        archs = [
            self.arch({**arch, **dict.fromkeys(names[:n], before), **dict.fromkeys(names[n:], after)})
            for before, after in ((FLOAT_BITS, INT8_BITS), (INT8_BITS, FLOAT_BITS))
            for n in range(len(names))
        ]
        return list(dict.fromkeys(archs))

    def precisions(self, arch: Arch) -> dict[str, Precision]:
        """The precision of each block of `arch` by its name, in order."""
        return {block.name: precision_of(block) for block in self.blocks(arch)}

    def has_int8(self, arch: Arch) -> bool:
        """Whether some block of `arch` is in INT8."""
        return INT8 in self.precisions(arch).values()

    def precision_text(self, arch: Arch) -> str:
        """The precisions of `arch` as text: `int8`, or `fp32 to stages.0.blocks.1, int8 to head`."""
        blocks = list(self.precisions(arch).items())
        following = [*(precision for _, precision in blocks[1:]), None]
        ends = [pair for pair, after in zip(blocks, following, strict=True) if pair[1] != after]
        if len(ends) == 1:
            return str(ends[0][1])
        return ", ".join(f"{precision} to {name}" for name, precision in ends)

    def by_block(self, arch: Arch) -> Arch:
        """`arch` as an arch of the grain `block`, which describes every network of the other grains."""
        bits = {
            f"{name}.bits": INT8_BITS if precision == INT8 else FLOAT_BITS
            for name, precision in self.precisions(arch).items()
        }
        return Arch({**self.base_arch(arch), **bits})

    def to_yaml(self) -> str:
        """See `Space.to_yaml`."""
        return f"{self.base.to_yaml()}bits: {self.grain}\n"

    def same_but_for_data(self, other: Space) -> bool:
        """See `Space.same_but_for_data`."""
        return (
            isinstance(other, PrecisionSpace)
            and self.grain == other.grain
            and self.base.same_but_for_data(other.base)
        )

    def has_blocks_of(self, other: Space) -> bool:
        """See `Space.has_blocks_of`."""
        return (
            isinstance(other, PrecisionSpace)
            and self.grain == other.grain
            and self.base.has_blocks_of(other.base)
        )

    def with_data(self, *, outputs: int, channels: int, resolutions: tuple[int, ...] | None = None) -> Self:
        """See `Space.with_data`."""
        base = self.base.with_data(outputs=outputs, channels=channels, resolutions=resolutions)
        return type(self)(base, self.grain)

    def with_resolutions(self, resolutions: Sequence[int]) -> Self:
        """See `Space.with_resolutions`."""
        return type(self)(self.base.with_resolutions(resolutions), self.grain)


class _Precisions:
    """The choices of precision of a network, and its slots with these choices.

    Args:
        slots: slots of the base space.
        choices: choices of the base space by name.
        grain: the parts whose precision is chosen separately.
    """

    def __init__(self, slots: Sequence[Slot], choices: Mapping[str, Choice], grain: Grain) -> None:
        self._slots, self._base, self._grain = slots, choices, grain
        self.choices = tuple(self._choices())

    def _choices(self) -> Iterator[Choice]:
        if self._grain == "from":
            starts = [i for i, slot in enumerate(self._slots) if self._is_always_active(slot)]
            yield Choice(INT8_FROM, "bits", (*starts, len(self._slots)))
            return
        parts: dict[str, list[Slot]] = {}
        for i, slot in enumerate(self._slots):
            parts.setdefault(self._name(i), []).append(slot)
        for name, slots in parts.items():
            first = slots[0]
            block = first.position if self._grain == "block" and first.stage is not None else None
            # without a slot that is always active, the first one switches the choice off
            optional = not any(map(self._is_always_active, slots))
            gate = (first.depth, first.position) if optional else (None, 0)
            yield Choice(name, "bits", (INT8_BITS, FLOAT_BITS), first.stage, block, *gate)

    def _is_always_active(self, slot: Slot) -> bool:
        return slot.depth is None or min(self._base[slot.depth].options) > slot.position

    def _name(self, index: int) -> str:
        """Name of the choice that sets the precision of a slot."""
        if self._grain == "from":
            return INT8_FROM
        slot = self._slots[index]
        return f"{slot.part if self._grain == 'stage' else slot.name}.bits"

    def _before(self, index: int) -> list[int]:
        """The slots that may come directly before a slot, the last one first."""
        before = []
        for i in reversed(range(index)):
            before.append(i)
            if self._is_always_active(self._slots[i]):
                break
        return before

    def slot(self, index: int) -> Slot:
        """A slot whose blocks have the precision of their choices."""
        slot, before = self._slots[index], self._before(index)
        depths = [self._slots[i].depth for i in before if not self._is_always_active(self._slots[i])]
        read = dict.fromkeys([self._name(index), *map(self._name, before), *filter(None, depths)])
        own = len(slot.choices)
        in_float = {i for i in before if self._ends_in_float(i)}
        variants = _Variants(slot)

        def build(*values: Value) -> Block:
            chosen = dict(zip(read, values[own:], strict=True))
            precision = self._precision(index, chosen)
            last = next((i for i in before if self._is_active(i, chosen)), None)
            entering = precision if last is None else self._precision(last, chosen)
            return variants(values[:own], precision, entering, unrounded=last in in_float)

        return Slot(
            slot.name,
            (*slot.choices, *read),
            build,
            slot.stage,
            slot.depth,
            slot.position,
            slot.learned_kernels,
        )

    def _ends_in_float(self, index: int) -> bool:
        """Whether the blocks of a slot end with an operator that is not computed with integers."""
        slot = self._slots[index]
        return ends_in_float(slot.build(*(self._base[name].options[0] for name in slot.choices)))

    def _is_active(self, index: int, values: Mapping[str, Value]) -> bool:
        slot = self._slots[index]
        return self._is_always_active(slot) or values[str(slot.depth)] > slot.position

    def _precision(self, index: int, values: Mapping[str, Value]) -> Precision:
        value = values[self._name(index)]
        in_int8 = value <= index if self._grain == "from" else value == INT8_BITS
        return "int8" if in_int8 else "fp32"


class _Variants:
    """The blocks of a slot in each precision; equal blocks are the same object.

    Many combinations of choices give equal blocks, for example resolutions with feature maps of equal size.
    """

    def __init__(self, slot: Slot) -> None:
        self._slot = slot
        self._built: dict[tuple[Value, ...], Block] = {}
        self._distinct: dict[Block, Block] = {}
        self._variants: dict[tuple[int, Precision, Precision, bool], Block] = {}

    def __call__(
        self, values: tuple[Value, ...], precision: Precision, entering: Precision, *, unrounded: bool
    ) -> Block:
        """The block of these values in a precision; see `in_precision` for the other arguments."""
        block = self._built.get(values)
        if block is None:
            built = self._slot.build(*values)
            block = self._built[values] = self._distinct.setdefault(built, built)
        key = id(block), precision, entering, unrounded
        if key not in self._variants:
            self._variants[key] = in_precision(block, precision, entering, unrounded=unrounded)
        return self._variants[key]
