"""Lists of tensor names in messages."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

MANY = 12
"""Number of names up to which each of them is written out."""
_BLOCK = re.compile(r"(?<=[._])\d+(?=\.)")


def name_list(names: Sequence[str]) -> str:
    """All names as text; if there are many, blocks are combined as in `blocks.{0-3,5}.fc1.bias`."""
    if len(names) <= MANY:
        return ", ".join(names)
    blocks: dict[str, list[int]] = defaultdict(list)
    for name in names:
        block = _BLOCK.search(name)
        blocks[_BLOCK.sub("{}", name, count=1)] += [int(block.group())] if block else []
    return ", ".join(name.replace("{}", _ranges(sorted(numbers))) for name, numbers in blocks.items())


def _ranges(numbers: Sequence[int]) -> str:
    """Rising numbers as text: `{0-3,5}` for 0, 1, 2, 3 and 5; `7` for one number."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    text = ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in ranges)
    return text if len(numbers) == 1 else f"{{{text}}}"
