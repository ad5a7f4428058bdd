"""Files in which Linux describes the machine."""

from __future__ import annotations

import glob


def read_system_file(path: str) -> str | None:
    """The text of a file, without surrounding white space; None if it does not exist or is not readable."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip().strip("\0")
    except OSError:  # not Linux, or no permission
        return None


def read_numbers(pattern: str) -> list[float]:
    """The numbers in all files that match a glob pattern and hold one integer."""
    texts = [read_system_file(path) for path in glob.glob(pattern)]
    return [float(text) for text in texts if text and text.lstrip("-").isdigit()]
