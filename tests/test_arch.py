import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from search_spaces import Arch, Space


def test_json_round_trip_keeps_value_and_id(space: Space, rng: np.random.Generator, tmp_path: Path) -> None:
    for arch in [space.smallest, space.largest, *space.decode(space.sample(rng, 20))]:
        again = Arch.from_json(arch.to_json())
        assert again == arch
        assert again.id == arch.id
        file = tmp_path / "arch.json"
        file.write_text(arch.to_json())
        assert Arch.load(file) == arch


def test_id_differs_with_every_choice(tiny_arch: Arch) -> None:
    ids = {(tiny_arch | {name: value + 1}).id for name, value in tiny_arch.items()} | {tiny_arch.id}
    assert len(ids) == len(tiny_arch) + 1
    assert all(len(text) == 16 for text in ids)  # 64 bits


def test_number_and_order_do_not_change_the_arch(tiny_arch: Arch) -> None:
    as_floats = Arch({name: float(value) for name, value in reversed([*tiny_arch.items()])})
    assert as_floats == tiny_arch
    assert (hash(as_floats), as_floats.id) == (hash(tiny_arch), tiny_arch.id)
    assert Arch.from_json(as_floats.to_json().replace("2", "2.0")).id == tiny_arch.id


def test_arch_is_immutable_and_pickles(tiny_arch: Arch) -> None:
    changed = tiny_arch | {"resolution": 6}
    assert (changed["resolution"], tiny_arch["resolution"]) == (6, 8)
    assert pickle.loads(pickle.dumps(tiny_arch)) == tiny_arch
    with pytest.raises(TypeError):
        tiny_arch["resolution"] = 6  # type: ignore[index]


@pytest.mark.parametrize("value", [None, "three", [3], True])
def test_json_of_something_else_is_refused(tiny_arch: Arch, value: object) -> None:
    content = dict(tiny_arch) | {"stem.width": value}
    with pytest.raises(ValueError, match=r"mine\.json: stem\.width") as caught:
        Arch.from_json(json.dumps(content), source="mine.json")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"mine\.json: .*object"):
        Arch.from_json("[3]", source="mine.json")


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
