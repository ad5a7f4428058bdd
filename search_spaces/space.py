"""A search space: its choices, its slots, and the blocks of a subnet."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import yaml

from search_spaces.arch import Arch
from search_spaces.choices import Choice, listed
from search_spaces.config import SpaceConfig
from search_spaces.genomes import GenomeCodec
from search_spaces.graph import Block, chain
from search_spaces.operators import BatchNorm, Resize


@dataclass(frozen=True, slots=True)
class Slot:
    """A position in the network and the blocks that it can hold."""

    name: str
    choices: tuple[str, ...]
    """Names of the choices that determine the block. A name may occur twice, for example as input and output
    width."""
    build: Callable[..., Block]
    """Builds the block from the values of `choices`, in their order."""
    stage: int | None = None
    depth: str | None = None
    """As in `Choice`: the slot is empty unless the value of `depth` is above `position`."""
    position: int = 0
    learned_kernels: tuple[int, ...] = ()
    """Kernel sizes, if each kernel is a learned linear map of the centre of the next larger one; empty: a
    smaller kernel is the centre of the largest."""

    @property
    def part(self) -> str:
        """The part of the network that the slot belongs to: `stages.1`, `stem`, `head`."""
        return self.name.partition(".")[0] if self.stage is None else f"stages.{self.stage}"


class Space(GenomeCodec, ABC):
    """A search space: its architectures and the graph of each of them.

    Each family has a subclass that defines the choices and slots. `search_spaces.costs` computes the costs of
    many architectures.
    """

    def __init__(self, config: SpaceConfig, choices: Sequence[Choice], slots: Sequence[Slot]) -> None:
        super().__init__(config.name, choices)
        self.config = config
        self.source = config.name
        """The name of the space in commands: its own, or the path of a YAML file or of a run."""
        self.slots = tuple(slots)
        # the space is immutable, so the blocks of a subnet are built once
        self.blocks = lru_cache(maxsize=1024)(self._blocks)
        self.network = lru_cache(maxsize=1024)(self._network)

    def __reduce__(self) -> tuple[type[Self], tuple[SpaceConfig], dict[str, str]]:
        # the constructor of a family has only the config as its argument
        return type(self), (self.config,), {"source": self.source}

    def __repr__(self) -> str:
        return f"<Space {self.name}: {len(self.genes)} genes, {self.n_subnets:.3g} subnets>"

    @abstractmethod
    def stages(self) -> list[dict[str, str]]:
        """Description of the space as a table: a row for the stem, each stage and the head."""

    @property
    def n_codes(self) -> int:
        """Number of codes in the published notation; several codes may describe the same network."""
        return self.n_subnets

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Possible sides of the square input image, in pixels."""
        return tuple(int(r) for r in self.choices["resolution"].options)

    def _blocks(self, arch: Arch) -> tuple[Block, ...]:
        """The blocks of `arch` in order.

        Raises:
            ValueError: the arch is not in the space.
        """
        self.encode([arch])  # checks that the arch is in the space
        return tuple(
            # a choice that is switched off has its first option, as in canonical genomes
            slot.build(*(arch.get(name, self.choices[name].options[0]) for name in slot.choices))
            for slot in self.slots
            if slot.depth is None or arch[slot.depth] > slot.position
        )

    def _network(self, arch: Arch) -> Block:
        """The network of `arch` as one block, from the images to the logits.

        Raises:
            ValueError: the arch is not in the space.
        """
        return chain(self.blocks(arch))

    def slot_blocks(self, slot: Slot) -> Iterator[Block]:
        """All blocks that `slot` can hold; the first choice varies slowest."""
        names = tuple(dict.fromkeys(slot.choices))
        for options in itertools.product(*(self.choices[name].options for name in names)):
            values = dict(zip(names, options, strict=True))
            yield slot.build(*(values[name] for name in slot.choices))

    def image_size(self, arch: Arch) -> int:
        """Side of the input images of `arch`, in pixels.

        It is the resolution, unless the network itself resizes its images.
        """
        return self.blocks(arch)[0].inputs[0].size[0]

    @property
    def resizes(self) -> bool:
        """Whether the network itself resizes its images."""
        return isinstance(self.blocks(self.largest)[0].nodes[0].op, Resize)

    @property
    def has_batch_norm(self) -> bool:
        """Whether the networks have batch norms, so that subnets need a recalibration of their statistics."""
        return any(block.has(BatchNorm) for block in self.blocks(self.largest))

    def macs(self, arch: Arch) -> int:
        """Multiply-accumulates for one image (see `search_spaces.operators.Operator.macs`)."""
        return sum(block.macs for block in self.blocks(arch))

    def params(self, arch: Arch) -> int:
        """Number of learned parameters of the subnet."""
        return sum(block.params for block in self.blocks(arch))

    def to_yaml(self) -> str:
        """The space as YAML text, including all defaults."""
        return yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False)

    def with_data(self, *, outputs: int, channels: int, resolutions: tuple[int, ...] | None = None) -> Self:
        """The same space for another data set.

        Args:
            outputs: number of outputs of the head.
            channels: channels of the images.
            resolutions: sides of the images, in pixels; None: unchanged.
        """
        update = {
            "outputs": outputs,
            "channels": channels,
            "resolutions": resolutions or self.config.resolutions,
        }
        return type(self)(self.config.model_copy(update=update))  # type: ignore[call-arg]

    def same_but_for_data(self, other: Space) -> bool:
        """Whether the spaces are equal except for outputs, channels, resolutions, name and description."""
        fields = {"outputs", "channels", "resolutions", "name", "description"}
        return type(self) is type(other) and (
            self.config.model_dump(exclude=fields) == other.config.model_dump(exclude=fields)
        )

    def has_blocks_of(self, other: Space) -> bool:
        """Whether the spaces are equal except for their data and the order in which depths skip blocks.

        Their blocks have equal latencies, except for blocks that depend on the data.
        """
        return self.same_but_for_data(other)

    def with_resolutions(self, resolutions: Sequence[int]) -> Self:
        """The same space with a subset of its resolutions.

        Raises:
            ValueError: one of them is not in the space.
        """
        unknown = sorted(set(resolutions) - set(self.resolutions))
        if unknown:
            raise ValueError(
                f"resolutions must be some of {listed(self.resolutions)} in the space {self.name!r}, "
                f"got {listed(unknown)}"
            )
        update = {"resolutions": tuple(sorted(set(resolutions)))}
        return type(self)(self.config.model_copy(update=update))  # type: ignore[call-arg]


class RankableSpace(Space):
    """A space whose depths can skip blocks in any order."""

    @property
    @abstractmethod
    def is_ranked(self) -> bool:
        """Whether depths skip blocks in another order than the last ones first."""

    @property
    @abstractmethod
    def unranked(self) -> Space:
        """The same space, in which depths skip the last blocks first."""

    def has_blocks_of(self, other: Space) -> bool:
        """See `Space.has_blocks_of`."""
        return isinstance(other, RankableSpace) and self.unranked.same_but_for_data(other.unranked)

    @abstractmethod
    def with_ranking(self, ranking: Mapping[str, Sequence[int]]) -> Self:
        """The same space with another order in which depths skip blocks.

        Args:
            ranking: for each depth, the positions of its blocks (`Slot.position`) from the most to the least
                important one.
        """
