"""Parts of error messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pydantic import ValidationError

MAX_LISTED = 6
"""Largest number of errors in a message."""


Place = tuple[int | str, ...]


def one_line(
    error: ValidationError,
    source: str,
    locate: Callable[[Place], str] | None = None,
    shorten: Callable[[Place], Place] | None = None,
) -> str:
    """The first errors of a validation in one line: `source: place: message; place: message`.

    An error about a container, such as a list that is too short, is left out if one of its items is wrong,
    because pydantic counts only valid items.

    Args:
        error: the error of pydantic.
        source: name of the file or object.
        locate: returns extra text for a place, such as a line number.
        shorten: returns the place for the message.
    """
    findings = []
    items = error.errors(include_url=False)
    for item in items:
        place = item["loc"]
        if any(len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in items):
            continue
        where = ".".join(str(part) for part in (shorten(place) if shorten else place))
        message = item["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
        if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):  # of a model, of a dataclass
            message = "unknown key"
        elif item["type"] != "missing" and not isinstance(item["input"], dict | list):
            message += f", got {item['input']!r:.100}"
        prefix = f"{locate(place)}{where}: " if locate else f"{where}: "
        findings.append((prefix if where else "") + message)
    more = f"; and {len(findings) - MAX_LISTED} more" if len(findings) > MAX_LISTED else ""
    return f"{source}: " + "; ".join(findings[:MAX_LISTED]) + more


def first_names(names: Iterable[str], limit: int = 10) -> str:
    """The first `limit` names, and the number of the others."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
