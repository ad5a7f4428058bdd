"""The keys that are common to the YAML files of all families."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

Positive = Annotated[int, Field(gt=0)]


class SpaceConfig(BaseModel, frozen=True, extra="forbid"):
    """The keys of all families."""

    schema_version: Literal[1] = 1
    family: str
    """Name of the family, such as `mbconv`."""
    name: str
    description: str = ""
    outputs: Positive
    """Number of outputs of the head; for classification, the number of classes."""
    channels: Literal[1, 3]
    """Channels of the input image: grey or RGB."""
    resolutions: tuple[Positive, ...]
    """Possible sides of the square input image, in pixels."""
