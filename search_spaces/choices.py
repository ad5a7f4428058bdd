"""The choices of a space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from search_spaces.arch import Value

Kind = Literal[
    "resolution", "width", "mid", "depth", "kernel", "expand",
    "heads", "value_ratio", "mlp_ratio", "mlp", "bits",
]  # fmt: skip
"""The property of the network that a choice sets."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision variable of a space; choices with several options are the genes."""

    name: str
    kind: Kind
    options: tuple[Value, ...]
    """Options in increasing order."""
    stage: int | None = None
    """Index of the stage that the choice belongs to; None: stem, head or the whole network."""
    block: int | None = None
    """Index of the block in its stage; None: the choice is made once for the stage."""
    depth: str | None = None
    """Name of the depth choice that can switch this one off."""
    position: int = 0
    """The choice is active only if the value of `depth` is greater than this."""

    @property
    def part(self) -> str:
        """The part of the network that the choice belongs to: `stages.1`, `stem`, `head`, `resolution`."""
        return self.name.partition(".")[0] if self.stage is None else f"stages.{self.stage}"

    def is_active(self, values: Mapping[str, Value]) -> bool:
        """Whether the choice is active, given the depths among `values`."""
        return self.depth is None or values.get(self.depth, 0) > self.position


def listed(options: Sequence[Value]) -> str:
    """Options as text for the tables of `Space.stages`: `0.2 0.25 4`."""
    return " ".join(f"{option:g}" for option in options)
