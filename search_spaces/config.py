"""The keys that are common to the YAML files of all families."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, Field, field_validator

Positive = Annotated[int, Field(gt=0)]
_Number = TypeVar("_Number", int, float)


def rising(options: tuple[_Number, ...]) -> tuple[_Number, ...]:
    """Check that options are not empty and strictly increasing.

    Raises:
        ValueError: otherwise.
    """
    if not options or list(options) != sorted(set(options)):
        raise ValueError("options must be a rising list without repeats, such as [3, 5, 7]")
    return options


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

    _rising = field_validator("resolutions")(rising)
