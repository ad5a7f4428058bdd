"""The keys of the files of traced spaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from search_spaces.choices import Choice, Kind
from search_spaces.config import Positive, SpaceConfig, rising
from search_spaces.tensors import Layout

OUTPUTS: Literal["outputs"] = "outputs"
"""The number of channels of the last layer in a file: the number of outputs of the space."""

Options = tuple[Annotated[int, Field(strict=True)] | Annotated[float, Field(allow_inf_nan=False)], ...]
PerOption = Mapping[str, tuple[Any, ...]]
"""A value for each option of a choice, by the name of the choice."""


class ChoiceRow(BaseModel, frozen=True, extra="forbid"):
    """A choice other than the resolution; see `search_spaces.choices.Choice`."""

    name: str
    kind: Kind
    options: Options
    stage: int | None = None
    block: int | None = None
    depth: str | None = None
    position: int = 0

    @model_validator(mode="after")
    def _rising(self) -> ChoiceRow:
        rising(self.options)
        return self

    @property
    def choice(self) -> Choice:
        """The choice."""
        place = (self.stage, self.block, self.depth, self.position)
        return Choice(self.name, self.kind, self.options, *place)


class NodeRow(BaseModel, frozen=True, extra="allow"):
    """An operator of a block. Further keys are the fields of the operator.

    The value of a field may depend on a choice: `{stages.0.blocks.0.expand: [32, 48, 64]}` has a value for
    each option.
    """

    name: str
    """Name in the network, which is also the name of the module with the weights."""
    op: str
    """Name of the operator, see `search_spaces.families.traced_operators.OPERATORS`."""
    inputs: tuple[int, ...] = ()
    """Indices of the nodes of the block that the node reads; -1 is the input of the block. Empty: the
    previous node."""

    @property
    def fields(self) -> Mapping[str, Any]:
        """Fields of the operator by name."""
        return self.model_extra or {}


class BlockRow(BaseModel, frozen=True, extra="forbid"):
    """A part of the network with one input tensor and one output tensor, the output of its last node."""

    name: str
    channels: Positive | PerOption | None = None
    """Channels of the input, which may depend on a choice as in `NodeRow`; None: those of the images."""
    layout: Layout = "image"
    """Layout of the input."""
    stage: int | None = None
    depth: str | None = None
    """As in `search_spaces.space.Slot`."""
    position: int = 0
    nodes: Annotated[tuple[NodeRow, ...], Field(min_length=1)]


class TracedConfig(SpaceConfig, frozen=True):
    """Content of the file of a space that was made from a network."""

    family: Literal["traced"]
    origin: str = ""
    """The network that the space was made from, for people who read the file."""
    choices: tuple[ChoiceRow, ...]
    blocks: Annotated[tuple[BlockRow, ...], Field(min_length=1)]


def per_option(value: object) -> tuple[str, tuple[Any, ...]] | None:
    """The choice that the value of a field depends on, and the values; None if it is constant.

    Raises:
        ValueError: the value is a mapping of another form.
    """
    if not isinstance(value, Mapping):
        return None
    if len(value) != 1:
        raise ValueError(f"a value that depends on a choice must be {{NAME: [VALUE, ...]}}, got {value}")
    ((name, values),) = value.items()
    if not isinstance(values, list | tuple):
        raise ValueError(f"a value that depends on a choice must be {{NAME: [VALUE, ...]}}, got {value}")
    return str(name), tuple(values)
