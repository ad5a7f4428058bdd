"""Writes files atomically."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Raise an `OSError` of the block again with the name of this file; a full disk gives none."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name in the same folder, then rename it into place.

    Readers see the old content or the new one, never a part; a full disk leaves the old file as it was.

    Raises:
        OSError: it cannot be written; names the file itself, not the temporary one.
    """
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with naming(path):
            with open(temporary, "xb") as file:  # its mode follows the umask, as that of any new file
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
