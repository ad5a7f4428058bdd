from __future__ import annotations

import codecs
from pathlib import Path

import pandas as pd
import pytest

import search_spaces
from hw_profiles.csv_tables import read_table
from nas.notation.arch_file import load_arch
from nas.recipes.recipe import load as load_recipe
from nas.recipes.recipe import parse as parse_recipe
from search_spaces import Arch
from search_spaces.text_files import read_text

IDS = ["1234567890123456", "12e3456789012345", "0000000000000001"]
FRAME = pd.DataFrame(
    {
        "arch_id": IDS,
        "latency_ms": [0.1 + 0.2, 1 / 3, float("nan")],
        "macs": [1, 2, 3],
        "origin": ["search", float("nan"), "random"],
        "keeps_limits": [True, False, True],
    }
)
ENCODINGS = {
    "utf-8": b"",
    "utf-8-sig": b"",
    "utf-16": b"",
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32": b"",
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_table_is_the_same_however_it_is_written(
    tmp_path: Path, encoding: str, separator: str, end: str
) -> None:
    text = "# é\n\n" + FRAME.to_csv(index=False, sep=separator)
    path = tmp_path / "table.csv"
    path.write_bytes(ENCODINGS[encoding] + text.replace("\n", end).encode(encoding))
    frame = read_table(path, ["arch_id", "macs"], comment="#")
    assert frame.index.tolist() == [4, 5, 6]  # after a comment, an empty line and the header
    pd.testing.assert_frame_equal(frame.reset_index(drop=True), FRAME, check_exact=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"arch_id,macs\na,1\nb\n", r"t\.csv, line 3: a row must have 2 values as the header has, got 1"),
        (b"\narch_id\na\n", r"t\.csv, line 2: the table must have the columns arch_id,macs, got arch_id$"),
        (b"arch_id,macs,macs\n", r"t\.csv, line 1: the table must name each column once"),
        (b"arch_id,macs\n" + b"x" * 200_000, r"t\.csv, line 2: the row cannot be read: field larger than"),
        (b" \n", r"t\.csv must be a table with a header, it is empty"),
        ("arch_id,macs\n\né,1\n".encode("latin-1"), r"t\.csv, line 3: the text must be UTF-8"),
        ("arch_id,macs\na,1\n".encode("utf-16-le"), r"t\.csv, line 1: the text must be UTF-8"),
    ],
)
def test_table_that_cannot_be_read_is_refused_by_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / "t.csv", ["arch_id", "macs"])


def test_other_text_files_may_have_a_byte_order_mark(tmp_path: Path, tiny_arch: Arch) -> None:
    text = "space: digits\ndata: {dataset: digits}\nepochs: 3\n"
    arch, recipe, space = (tmp_path / name for name in ("arch.json", "recipe.yaml", "space.yaml"))
    arch.write_text(tiny_arch.to_json(), encoding="utf-16")
    recipe.write_text(text.replace("\n", "\r\n"), encoding="utf-8-sig")
    space.write_text(search_spaces.get("digits").to_yaml(), encoding="utf-16")
    assert Arch.load(arch) == tiny_arch
    assert load_recipe(recipe) == parse_recipe(text)
    digits = search_spaces.get(space)
    assert digits.config == search_spaces.get("digits").config
    arch.write_text(digits.largest.to_json(), encoding="utf-8-sig")
    assert load_arch(digits, arch) == digits.largest
    space.write_bytes("name: tiny\n# Größe\n".encode("latin-1"))
    for read in (read_text, search_spaces.get):
        with pytest.raises(ValueError, match=r"space\.yaml, line 2: the text must be UTF-8; save the file"):
            read(space)
