"""Writes files atomically."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Raise an `OSError` of the `with` block again with the name of this file, which some errors lack."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name in the same folder, then rename it into place.

    Readers see the old content or the new content, never a part. If the disk is full, the old file remains.

    Raises:
        OSError: the file cannot be written; the error names the file itself, not the temporary one.
    """
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with naming(path):
            with open(temporary, "xb") as file:  # not `tempfile`, so that the umask sets the mode
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
