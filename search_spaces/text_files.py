"""Read text files in any Unicode encoding."""

from __future__ import annotations

import codecs
from pathlib import Path

_MARKS = {  # longer marks first: that of UTF-32 starts with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(path: str | Path) -> str:
    r"""Content of a text file, with `\n` as the only line break.

    The text must be UTF-8, or begin with the byte order mark of UTF-8, UTF-16 or UTF-32.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file has another encoding; the message has the first invalid line.
    """
    content = Path(path).read_bytes()
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
        wrong = text.find("\0")  # UTF-16 without a mark, or a binary file
    except UnicodeDecodeError as error:
        text, wrong = content[: error.start].decode("latin-1"), error.start
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if wrong >= 0:
        line = text[:wrong].count("\n") + 1
        raise ValueError(f"{path}, line {line}: the text must be UTF-8; save the file in that encoding")
    return text
