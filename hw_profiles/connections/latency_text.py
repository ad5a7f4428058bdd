"""Finds the latency in the output of a benchmark tool."""

from __future__ import annotations

import math
import re

from pydantic import BaseModel, field_validator

MS = {"us": 1e-3, "µs": 1e-3, "usec": 1e-3, "ms": 1.0, "msec": 1.0, "s": 1e3, "sec": 1e3}
"""Milliseconds of each unit."""
_NUMBER = r"(?P<value>\d+(?:\.\d*)?(?:e[+-]?\d+)?)"
_UNIT = rf"\s*(?P<unit>{'|'.join(sorted(MS, key=len, reverse=True))})\b"


class LatencyPattern(BaseModel, frozen=True, extra="forbid"):
    """A regular expression for the output of one tool."""

    regex: str
    """The group `value`, or the first group if there is none, is the number; the optional group `unit` is its
    unit."""
    unit: str = "ms"
    """The unit if the output does not name one."""

    @field_validator("regex")
    @classmethod
    def _compiles(cls, regex: str) -> str:
        try:
            groups = re.compile(regex).groups
        except re.error as error:
            raise ValueError(f"{regex!r} is not a regular expression: {error}") from None
        if not groups:
            raise ValueError(f"{regex!r} must have a group around the number, such as 'time: ([0-9.]+)'")
        return regex

    @field_validator("unit")
    @classmethod
    def _known(cls, unit: str) -> str:
        if unit not in MS:
            raise ValueError(f"the unit must be one of {list(MS)}, got {unit!r}")
        return unit

    def find_ms(self, text: str) -> float | None:
        """The first latency in a text, ms; None if it is not a positive number or there is none."""
        match = re.search(self.regex, text, re.IGNORECASE)
        if match is None:
            return None
        groups = match.groupdict()
        try:
            value = float(groups.get("value") or match.group(1)) * MS[groups.get("unit") or self.unit]
        except (ValueError, KeyError):
            return None
        return value if math.isfinite(value) and value > 0 else None


COMMON = (
    LatencyPattern(regex=rf"median\s*[=:]\s*{_NUMBER}{_UNIT}"),  # trtexec, benchmark_app
    LatencyPattern(regex=rf"P50 Latency(?: is|:)\s*{_NUMBER}{_UNIT}"),  # onnxruntime_perf_test
    LatencyPattern(regex=rf"timings in us:.*Inference \(avg\):\s*{_NUMBER}", unit="us"),  # LiteRT
    LatencyPattern(regex=rf"(?:average|avg|mean|latency)[^\n\d]*{_NUMBER}{_UNIT}"),
)
"""Patterns of common tools, tried in this order."""


def find_latency_ms(text: str, pattern: LatencyPattern | None) -> float | None:
    """The latency in the output of a tool, ms; None if none was found."""
    matches = (candidate.find_ms(text) for candidate in ([pattern] if pattern else COMMON))
    return next((ms for ms in matches if ms is not None), None)
