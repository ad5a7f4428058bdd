import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search_spaces import Arch, Space, StageArch


def test_json_round_trip_keeps_value_and_id(space: Space, rng: np.random.Generator, tmp_path: Path) -> None:
    for arch in [space.smallest, space.largest, *space.decode(space.sample(rng, 20))]:
        again = Arch.from_json(arch.to_json())
        assert again == arch
        assert again.id == arch.id
        file = tmp_path / "arch.json"
        file.write_text(arch.to_json())
        assert Arch.load(file) == arch


def test_id_is_short_and_differs_with_every_choice(tiny_arch: Arch) -> None:
    first, second = tiny_arch.stages
    others = [
        replace(tiny_arch, resolution=6),
        replace(tiny_arch, stem_width=2),
        replace(tiny_arch, head_width=8),
        replace(tiny_arch, stages=(replace(first, width=2), second)),
        replace(tiny_arch, stages=(replace(first, kernels=(5, 5)), second)),
        replace(tiny_arch, stages=(replace(first, expands=(2, 2)), second)),
        replace(tiny_arch, stages=(StageArch(4, (3,), (1,)), second)),
    ]
    ids = {arch.id for arch in [tiny_arch, *others]}
    assert len(ids) == 8
    assert {len(text) for text in ids} == {16}


def test_id_does_not_depend_on_how_a_number_was_written(tiny_arch: Arch) -> None:
    _, second = tiny_arch.stages
    as_integers = replace(tiny_arch, stages=(StageArch(4, (3, 5), (1, 2)), second))
    as_floats = replace(tiny_arch, stages=(StageArch(4, (3, 5), (1.0, 2.0)), second))
    assert as_integers == as_floats
    assert as_integers.id == as_floats.id
    text = as_floats.to_json().replace("1.0, 2.0", "1, 2")
    assert Arch.from_json(text).id == as_floats.id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head_width": None}, r"mine\.json: head_width: input should be a valid integer"),
        ({"colour": "red"}, r"mine\.json: colour: unknown key"),
        ({"stages": [{"width": 4, "kernels": [3]}]}, r"stages\.0\.expands: field required"),
        (
            {"stages": [{"width": 4, "kernels": ["three"], "expands": [1]}]},
            r"stages\.0\.kernels\.0: .*'three'",
        ),
    ],
)
def test_json_of_something_else_is_refused(tiny_arch: Arch, change: dict[str, object], message: str) -> None:
    content = json.loads(tiny_arch.to_json()) | change
    with pytest.raises(ValueError, match=message):
        Arch.from_json(json.dumps(content), source="mine.json")


def test_all_findings_come_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"resolution: .*; head_width: ") as caught:
        Arch.from_json('{"resolution": "big", "stem_width": 4, "stages": [], "head_width": "wide"}')
    assert "\n" not in str(caught.value)


def test_text_that_is_not_json_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "arch.json"
    file.write_bytes(b'{"resolution": 8,')
    with pytest.raises(ValueError, match=r"arch\.json: invalid JSON"):
        Arch.load(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"arch\.json, line 1: the text must be UTF-8"):
        Arch.load(file)


def test_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read the arch file .*none\.json: No such file"):
        Arch.load(tmp_path / "none.json")
