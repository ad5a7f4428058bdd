"""What every family of spaces has in common: choices, slots, genomes, and the walk over a network."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, Literal, Self

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from search_spaces.arch import Arch, Value
from search_spaces.graph import Block, chain
from search_spaces.memory import peak_memory_bytes
from search_spaces.operators import Resize
from search_spaces.tables import BlockTable

Positive = Annotated[int, Field(gt=0)]
Kind = Literal["resolution", "width", "mid", "depth", "kernel", "expand"]
"""What a choice decides."""
Genomes = NDArray[np.int64]
"""Integer matrix of shape (n, n_genes): one architecture a row, each gene the index of an option."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision of a space. Those with several options are the genes, in this order."""

    name: str
    kind: Kind
    options: tuple[Value, ...]
    """Rising, so that index 0 is the smallest."""
    stage: int | None = None
    """Index of the stage that the choice belongs to; None: stem, head or the whole network."""
    block: int | None = None
    """Index of the block in its stage; None: the choice is made once for the stage."""
    depth: str | None = None
    """Name of the depth choice that can switch this one off."""
    position: int = 0
    """The choice is active only where the value of `depth` is above this."""

    @property
    def part(self) -> str:
        """The part of the network that the choice belongs to: `stages.1`, `stem`, `head`, `resolution`."""
        return self.name.partition(".")[0] if self.stage is None else f"stages.{self.stage}"


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for one block, and what may stand there."""

    name: str
    choices: tuple[str, ...]
    """Names of the choices that decide which block stands here; one may take two places, such as the width of
    a block that is as wide as the one before it."""
    build: Callable[..., Block]
    """Makes the block from the values of `choices`, in their order."""
    stage: int | None = None
    depth: str | None = None
    """As in `Choice`: the slot is empty unless the value of `depth` is above `position`."""
    position: int = 0
    learned_kernels: tuple[int, ...] = ()
    """Kernel sizes of which each is a learned linear map of the next larger one's centre; none: a smaller
    kernel is the centre of the largest."""

    @property
    def part(self) -> str:
        """The part of the network that the slot belongs to: `stages.1`, `stem`, `head`."""
        return self.name.partition(".")[0] if self.stage is None else f"stages.{self.stage}"


class SpaceConfig(BaseModel, frozen=True, extra="forbid"):
    """What the YAML file of every family says."""

    schema_version: Literal[1] = 1
    family: str
    """Name of the family, such as `mbconv`."""
    name: str
    description: str = ""
    classes: Positive
    """Outputs of the classifier."""
    channels: Literal[1, 3]
    """Channels of the input image: grey or RGB."""
    resolutions: tuple[Positive, ...]
    """Sides of the square input image on offer, in pixels."""


def listed(options: Sequence[Value]) -> str:
    """Options as text for the tables of `Space.stages`: `0.2 0.25 4`."""
    return " ".join(f"{option:g}" for option in options)


def _is_active(choice: Choice, values: Mapping[str, Value]) -> bool:
    """Whether the depth that can switch a choice off leaves it on."""
    return choice.depth is None or values.get(choice.depth, 0) > choice.position


def _some(names: Sequence[str]) -> str:
    """The first few names as text."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}" if names else "none"


class Space(ABC):
    """A search space: which architectures exist and which layers each of them has.

    A family derives from it and says what its choices and slots are; everything else follows here.
    """

    def __init__(self, config: SpaceConfig, choices: Sequence[Choice], slots: Sequence[Slot]) -> None:
        self.config = config
        self.name = config.name
        self.source = config.name
        """What commands call the space: its name, or the path of a YAML file or of a run."""
        self.choices = {choice.name: choice for choice in choices}
        self.slots = tuple(slots)
        self.genes = tuple(choice for choice in choices if len(choice.options) > 1)
        self.n_options: NDArray[np.int64] = np.array([len(g.options) for g in self.genes], dtype=np.int64)
        self._column = {gene.name: i for i, gene in enumerate(self.genes)}
        # pure functions of an immutable space: a subnet is walked once however often it is used
        self.blocks = lru_cache(maxsize=1024)(self._blocks)
        self.network = lru_cache(maxsize=1024)(self._network)

    def __reduce__(self) -> tuple[type[Self], tuple[SpaceConfig], dict[str, str]]:
        # the family's constructor takes its config alone
        return type(self), (self.config,), {"source": self.source}

    def __repr__(self) -> str:
        return f"<Space {self.name}: {len(self.genes)} genes, {self.n_subnets:.3g} subnets>"

    # ------------------------------------------------------------------ what a family says

    @abstractmethod
    def stages(self) -> list[dict[str, str]]:
        """The space as a table for people: a row for the stem, each stage and the head."""

    # ------------------------------------------------------------------ genomes

    def encode(self, archs: Sequence[Arch]) -> Genomes:
        """Canonical genomes of `archs`, shape (n, n_genes).

        Raises:
            ValueError: an arch makes a choice that the space does not offer.
        """
        genomes = np.zeros((len(archs), len(self.genes)), dtype=np.int64)
        for row, arch in zip(genomes, archs, strict=True):
            for name in arch.keys() & self.choices.keys():
                options, value = self.choices[name].options, arch[name]
                if value not in options:
                    raise ValueError(
                        f"{name} must be one of {options} in the space {self.name!r}, got {value}"
                    )
                if name in self._column:
                    row[self._column[name]] = options.index(value)
            self._check_names(arch)
        return genomes

    def _check_names(self, arch: Arch) -> None:
        """Check that an arch has exactly the choices that are active in it.

        Raises:
            ValueError: names the choices that are missing or do not belong.
        """
        active = {name for name, choice in self.choices.items() if _is_active(choice, arch)}
        if active != arch.keys():
            missing, unknown = sorted(active - arch.keys()), sorted(arch.keys() - active)
            raise ValueError(
                f"an arch of the space {self.name!r} must have a value for each active choice and no other: "
                f"missing {_some(missing)}, unknown or switched off {_some(unknown)}"
            )

    def arch(self, values: Mapping[str, Value]) -> Arch:
        """The arch with these values; those of choices that a depth switches off are dropped.

        Args:
            values: of at least every choice that is active.
        """
        return Arch({name: values[name] for name, c in self.choices.items() if _is_active(c, values)})

    def decode(self, genomes: Genomes) -> list[Arch]:
        """The archs of `genomes`, raw or canonical, shape (n, n_genes).

        Raises:
            ValueError: the shape is wrong or a gene is no index of an option.
        """
        genomes = np.asarray(genomes)
        if genomes.ndim != 2 or genomes.shape[1] != len(self.genes):
            raise ValueError(f"genomes must have shape (n, {len(self.genes)}), got {genomes.shape}")
        if (genomes < 0).any() or (genomes >= self.n_options).any():
            raise ValueError(f"genes must lie in 0..{self.n_options.max() - 1} and below n_options")
        return [self.arch(self._values_of_row(row)) for row in genomes.tolist()]

    def _values_of_row(self, row: Sequence[int]) -> dict[str, Value]:
        return {
            name: choice.options[row[self._column[name]] if name in self._column else 0]
            for name, choice in self.choices.items()
        }

    def canonical(self, genomes: Genomes) -> Genomes:
        """`genomes` with the genes that a depth choice switches off set to 0: equal networks, equal rows."""
        result: Genomes = np.asarray(genomes, dtype=np.int64) * self.active(genomes)
        return result

    def active(self, genomes: Genomes) -> NDArray[np.bool_]:
        """Which genes matter: those that no depth choice switches off, shape (n, n_genes)."""
        result: NDArray[np.bool_] = np.asarray(genomes)[:, self._depth_columns] >= self._first_active
        return result

    @cached_property
    def _depth_columns(self) -> NDArray[np.intp]:
        """Of each gene the column of the depth that can switch it off; any column where none can."""
        return np.array([self._column.get(gene.depth or "", 0) for gene in self.genes], dtype=np.intp)

    @cached_property
    def _first_active(self) -> NDArray[np.int64]:
        """Of each gene the first index of its depth at which it is active, shape (n_genes,)."""
        first = [
            sum(d <= gene.position for d in self.choices[gene.depth].options) if gene.depth else 0
            for gene in self.genes
        ]
        return np.array(first, dtype=np.int64)

    def sample(self, rng: np.random.Generator, n: int) -> Genomes:
        """`n` canonical genomes, each gene drawn uniformly from its options, shape (n, n_genes)."""
        return self.canonical(rng.integers(0, self.n_options, size=(n, len(self.genes))))

    def all_subnets(self) -> Genomes:
        """Canonical genomes of all subnets, shape (n_subnets, n_genes); only for small spaces."""
        if not self.genes:
            return np.zeros((1, 0), dtype=np.int64)
        raw = np.array(list(itertools.product(*map(range, self.n_options))), dtype=np.int64)
        return np.unique(self.canonical(raw), axis=0)

    @property
    def smallest(self) -> Arch:
        """The arch with the smallest option of every choice."""
        return self.decode(np.zeros((1, len(self.genes)), dtype=np.int64))[0]

    @property
    def largest(self) -> Arch:
        """The arch with the largest option of every choice."""
        return self.decode(self.n_options[None] - 1)[0]

    @cached_property
    def n_subnets(self) -> int:
        """Number of distinct subnets (equal networks counted once), resolutions included."""
        gated: dict[str, list[Choice]] = defaultdict(list)
        for choice in self.choices.values():
            if choice.depth is not None:
                gated[choice.depth].append(choice)
        total = 1
        for choice in self.choices.values():
            if choice.depth is None:
                total *= sum(
                    math.prod(len(c.options) for c in gated[choice.name] if value > c.position)
                    for value in choice.options
                )
        return total

    @property
    def n_codes(self) -> int:
        """Number of codes by which the space's publication counts, where several give one network."""
        return self.n_subnets

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Sides of the square input image on offer, in pixels."""
        return tuple(int(r) for r in self.choices["resolution"].options)

    # ------------------------------------------------------------------ the walk

    def _blocks(self, arch: Arch) -> tuple[Block, ...]:
        """The blocks of `arch` in order.

        Raises:
            ValueError: the arch is not in the space.
        """
        self.encode([arch])  # refuses what the space does not offer
        return tuple(
            slot.build(*(arch[name] for name in slot.choices))
            for slot in self.slots
            if slot.depth is None or arch[slot.depth] > slot.position
        )

    def _network(self, arch: Arch) -> Block:
        """All nodes of `arch` as one block, whose input is the images and whose output is the logits.

        Raises:
            ValueError: the arch is not in the space.
        """
        return chain(self.blocks(arch))

    def slot_blocks(self, slot: Slot) -> Iterator[Block]:
        """Every block that may stand in `slot`, first choice slowest."""
        names = tuple(dict.fromkeys(slot.choices))
        for options in itertools.product(*(self.choices[name].options for name in names)):
            values = dict(zip(names, options, strict=True))
            yield slot.build(*(values[name] for name in slot.choices))

    def columns(self, names: Sequence[str]) -> list[int]:
        """Genome columns of those of `names` that are genes (have several options), each once."""
        return [self._column[name] for name in dict.fromkeys(names) if name in self._column]

    def image_size(self, arch: Arch) -> int:
        """Side in pixels of the images that the network of `arch` is given.

        Its resolution, unless the network itself resizes them.
        """
        return self.blocks(arch)[0].inputs[0].size[0]

    @property
    def resizes(self) -> bool:
        """Whether the network itself resizes its images."""
        return isinstance(self.blocks(self.largest)[0].nodes[0].op, Resize)

    # ------------------------------------------------------------------ costs

    def macs(self, arch: Arch) -> int:
        """Multiply-accumulates for one image (see `search_spaces.operators.Operator.macs`)."""
        return sum(block.macs for block in self.blocks(arch))

    def params(self, arch: Arch) -> int:
        """Learned numbers of the extracted subnet."""
        return sum(block.params for block in self.blocks(arch))

    @cached_property
    def macs_table(self) -> BlockTable:
        """Multiply-accumulates of many genomes at once."""
        return BlockTable(self, lambda block: block.macs)

    @cached_property
    def params_table(self) -> BlockTable:
        """Parameters of many genomes at once."""
        return BlockTable(self, lambda block: block.params)

    def peak_memory_bytes(self, arch: Arch) -> int:
        """Most bytes of activations alive at once for one image (see `search_spaces.memory`)."""
        return peak_memory_bytes(self.network(arch))

    @cached_property
    def peak_memory_table(self) -> BlockTable:
        """Peak memory of every block; `largest` gives that of many genomes at once."""
        return BlockTable(self, peak_memory_bytes)

    # ------------------------------------------------------------------ files

    def to_yaml(self) -> str:
        """The space as YAML text that `search_spaces.get` reads back, with every default spelled out."""
        return yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False)

    def with_data(self, *, classes: int, channels: int, resolutions: tuple[int, ...] | None = None) -> Self:
        """The same space for another data set.

        Args:
            classes: outputs of the classifier.
            channels: of the images.
            resolutions: sides of the images, in pixels; None: as they are.
        """
        update = {
            "classes": classes,
            "channels": channels,
            "resolutions": resolutions or self.config.resolutions,
        }
        return type(self)(self.config.model_copy(update=update))  # type: ignore[call-arg]

    def same_but_for_data(self, other: Space) -> bool:
        """Whether the spaces differ in nothing but classes, channels, resolutions, name and description."""
        fields = {"classes", "channels", "resolutions", "name", "description"}
        return self.config.model_dump(exclude=fields) == other.config.model_dump(exclude=fields)

    def with_resolutions(self, resolutions: Sequence[int]) -> Self:
        """The same space with some of its resolutions.

        Raises:
            ValueError: one of them is not on offer.
        """
        unknown = sorted(set(resolutions) - set(self.resolutions))
        if unknown:
            raise ValueError(
                f"resolutions must be some of {listed(self.resolutions)} in the space {self.name!r}, "
                f"got {listed(unknown)}"
            )
        update = {"resolutions": tuple(sorted(set(resolutions)))}
        return type(self)(self.config.model_copy(update=update))  # type: ignore[call-arg]
