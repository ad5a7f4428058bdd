"""One architecture: a mapping from the names of its choices to their values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, core_schema

from search_spaces.errors import one_line
from search_spaces.text_files import read_text

Value = int | float
"""The value of a choice: a number of channels or blocks, a kernel size, a ratio, ..."""


class Arch(Mapping[str, Value]):
    """One subnet of a space: the value of every choice that is active in it.

    Choices that a depth switches off are absent, so equal networks have equal archs. An arch is immutable and
    hashable. `arch | {"resolution": 32}` is a copy with another resolution.

    Args:
        values: values by names of choices. Whole numbers are stored as integers, so 2.0 equals 2.
    """

    __slots__ = ("_hash", "_values")

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = {name: _plain(value) for name, value in values.items()}
        self._hash = hash(frozenset(self._values.items()))

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self._values == other._values if isinstance(other, Arch) else NotImplemented

    def __or__(self, changes: Mapping[str, Value]) -> Arch:
        return Arch({**self._values, **changes})

    def __reduce__(self) -> tuple[type[Arch], tuple[dict[str, Value]]]:
        return Arch, (self._values,)

    def __repr__(self) -> str:
        return f"Arch({self._values})"

    @property
    def id(self) -> str:
        """Identifier of 16 hexadecimal digits, which depends only on the values."""
        text = json.dumps(self._values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The arch as JSON text; `from_json` reads it back."""
        return json.dumps(self._values)

    @classmethod
    def from_json(cls, text: str | bytes, source: str = "arch") -> Arch:
        """Read an arch from JSON text; `source` names the text in error messages.

        Raises:
            ValueError: the text is not a JSON object of numbers.
        """
        try:
            return cls(_VALUES.validate_json(text))
        except ValidationError as error:
            raise ValueError(one_line(error, source)) from None

    @classmethod
    def load(cls, path: str | Path) -> Arch:
        """Read an arch from a JSON file.

        Raises:
            ValueError: the file is missing or not a JSON object of numbers.
        """
        try:
            text = read_text(path)
        except OSError as error:
            raise ValueError(f"cannot read the arch file {path}: {error.strerror}") from None
        return cls.from_json(text, source=str(path))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let pydantic models have a field of this type, stored as a plain mapping."""
        return core_schema.no_info_after_validator_function(
            lambda values: values if isinstance(values, cls) else cls(values),
            core_schema.union_schema([core_schema.is_instance_schema(cls), handler.generate_schema(_Values)]),
            serialization=core_schema.plain_serializer_function_ser_schema(dict),
        )


def _plain(value: Value) -> Value:
    """Whole floats as integers: 2 == 2.0, but their JSON texts, which determine the id, differ."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_Values = dict[str, Annotated[int, Field(strict=True)] | Annotated[float, Field(strict=True)]]
_VALUES: TypeAdapter[dict[str, Value]] = TypeAdapter(_Values)
