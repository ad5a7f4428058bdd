"""One architecture as a typed value."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from search_spaces.errors import one_line
from search_spaces.text_files import read_text

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class StageArch:
    """The choices of one stage; it has as many blocks as `kernels` has entries."""

    __pydantic_config__ = _STRICT

    width: int
    """Output channels."""
    kernels: tuple[int, ...]
    """Depthwise kernel size of each block, in pixels."""
    expands: tuple[float, ...]
    """Expansion ratio of each block: its inner channels / its input channels (ResNet: output channels)."""

    def __post_init__(self) -> None:
        # 2 == 2.0, but they are spelled differently in the JSON text that the id comes from
        object.__setattr__(self, "expands", tuple(float(expand) for expand in self.expands))

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.kernels)


@dataclass(frozen=True, slots=True)
class Arch:
    """One subnet of a space. Only blocks that exist are listed, so equal networks are equal values."""

    __pydantic_config__ = _STRICT

    resolution: int
    """Side of the square input image in pixels."""
    stem_width: int
    stages: tuple[StageArch, ...]
    head_width: int
    """Features that the classifier reads."""
    stem_mid: int | None = None
    """Inner channels of a stem of several convolutions; None: the stem is one."""
    stem_depth: int | None = None
    """Number of convolutions of such a stem."""

    @property
    def id(self) -> str:
        """Short name that depends on the choices alone, equal on every machine."""
        text = json.dumps(self._choices(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The arch as JSON text; `from_json` reads it back."""
        return json.dumps(self._choices())

    def _choices(self) -> dict[str, Any]:
        """Plain values, without those that the arch's family of spaces does not have."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, text: str | bytes, source: str = "arch") -> Arch:
        """Read an arch from JSON text; `source` names the text in error messages.

        Raises:
            ValueError: the text is not JSON or does not describe an arch.
        """
        try:
            return _ARCH.validate_json(text)
        except ValidationError as error:
            raise ValueError(one_line(error, source)) from None

    @classmethod
    def load(cls, path: str | Path) -> Arch:
        """Read an arch from a JSON file.

        Raises:
            ValueError: the file is missing, not JSON, or does not describe an arch.
        """
        try:
            text = read_text(path)
        except OSError as error:
            raise ValueError(f"cannot read the arch file {path}: {error.strerror}") from None
        return cls.from_json(text, source=str(path))


_ARCH = TypeAdapter(Arch)
