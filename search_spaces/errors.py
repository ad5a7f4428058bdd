"""pydantic's validation errors as one line."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import ValidationError

AT_MOST = 6
"""Findings that are listed."""


Place = tuple[int | str, ...]


def one_line(
    error: ValidationError,
    source: str,
    locate: Callable[[Place], str] | None = None,
    shorten: Callable[[Place], Place] | None = None,
) -> str:
    """The first findings of a validation in one line: `source: where: what; where: what`.

    A finding about a whole, such as a list that is too short, is left out where one of its parts is wrong:
    pydantic makes it from the parts that are right.

    Args:
        error: what pydantic found.
        source: the file or object that was read.
        locate: turns the place of a finding into extra words, such as a line number.
        shorten: turns the place of a finding into the one that the message names.
    """
    findings = []
    items = error.errors(include_url=False)
    for item in items:
        place = item["loc"]
        if any(len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in items):
            continue
        where = ".".join(str(part) for part in (shorten(place) if shorten else place))
        what = item["msg"].removeprefix("Value error, ")
        what = what[:1].lower() + what[1:]
        if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):  # of a model, of a dataclass
            what = "unknown key"
        elif item["type"] != "missing" and not isinstance(item["input"], dict | list):
            what += f", got {item['input']!r:.100}"
        prefix = f"{locate(place)}{where}: " if locate else f"{where}: "
        findings.append((prefix if where else "") + what)
    more = f"; and {len(findings) - AT_MOST} more" if len(findings) > AT_MOST else ""
    return f"{source}: " + "; ".join(findings[:AT_MOST]) + more
