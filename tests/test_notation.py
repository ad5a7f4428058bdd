import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import search_spaces
from nas.notation.arch_file import load_arch
from nas.notation.attentivenas import arch_from_attentivenas, arch_to_attentivenas
from nas.notation.dynast import arch_from_dynast, arch_to_dynast
from nas.notation.ofa import arch_from_ofa, arch_to_ofa
from search_spaces import Arch, Space

W10 = search_spaces.get("ofa-mbv3-w1.0")
PROXYLESS = search_spaces.get("ofa-proxyless-w1.3")
ATTENTIVENAS = search_spaces.get("attentivenas")
NOTATION = {"ks": [3, 5, 7, 3] * 5, "e": [3, 4, 6, 3] * 5, "d": [2, 3, 4, 2, 3], "r": 160}
STAGE_NOTATION = arch_to_attentivenas(ATTENTIVENAS, ATTENTIVENAS.largest)


@pytest.mark.parametrize("name", ["ofa-mbv3-w1.0", "ofa-mbv3-w1.2", "ofa-proxyless-w1.3"])
def test_ofa_round_trip(name: str, rng: np.random.Generator) -> None:
    space = search_spaces.get(name)
    for arch in space.decode(space.sample(rng, 50)):
        notation = arch_to_ofa(space, arch)
        assert len(notation["ks"]) == len(notation["e"]) == (21 if "proxyless" in name else 20)
        assert arch_from_ofa(space, notation) == arch
        assert arch_from_ofa(space, json.loads(json.dumps(notation))) == arch


def test_attentivenas_round_trip(rng: np.random.Generator) -> None:
    for arch in ATTENTIVENAS.decode(ATTENTIVENAS.sample(rng, 50)):
        notation = arch_to_attentivenas(ATTENTIVENAS, arch)
        assert [len(notation[key]) for key in ("width", "depth", "kernel_size", "expand_ratio")] == [
            9,
            7,
            7,
            7,
        ]
        assert arch_from_attentivenas(ATTENTIVENAS, json.loads(json.dumps(notation))) == arch


def test_ofa_notation_of_a_known_arch() -> None:
    arch = arch_from_ofa(W10, NOTATION)
    assert (arch["resolution"], arch["stem.width"], arch["head.width"]) == (160, 16, 1280)
    assert [arch[f"stages.{s}.depth"] for s in range(6)] == [
        1,
        2,
        3,
        4,
        2,
        3,
    ]  # the static block is the first stage
    assert [arch[f"stages.{s}.width"] for s in range(6)] == [16, 24, 40, 80, 112, 160]
    assert [arch[f"stages.3.blocks.{b}.kernel"] for b in range(4)] == [3, 5, 7, 3]
    assert [arch[f"stages.5.blocks.{b}.expand"] for b in range(3)] == [3, 4, 6]


def test_ofa_notation_of_equal_networks() -> None:
    arch = arch_from_ofa(W10, NOTATION)
    idle = [7 if i % 4 == 3 and i // 4 != 2 else k for i, k in enumerate(NOTATION["ks"])]  # type: ignore[arg-type,var-annotated]
    assert idle != NOTATION["ks"]
    assert arch_from_ofa(W10, NOTATION | {"ks": idle, "r": [160], "wid": None}) == arch
    assert arch_from_ofa(W10, {key: np.array(value) for key, value in NOTATION.items() if key != "r"}) == (
        arch_from_ofa(W10, NOTATION | {"r": 224})
    )
    absent = [0 if i % 4 == 3 and i // 4 != 2 else k for i, k in enumerate(idle)]
    assert arch_from_ofa(W10, NOTATION | {"ks": absent}) == arch
    everywhere = {"ks": 7, "e": 6, "d": 4}
    assert arch_from_ofa(W10, everywhere) == W10.largest  # the default of r is the largest resolution
    assert arch_from_ofa(PROXYLESS, everywhere) == PROXYLESS.largest  # the last stage has one block


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ks": [3] * 19}, r"ks must have 20 numbers"),
        ({"ks": ["3"] * 20}, r"ks must have 20 numbers"),
        ({"d": [2] * 6}, r"d must have 5 numbers"),
        ({"d": [5] * 5}, r"stages\.1\.depth must be one of \(2, 3, 4\) .*'ofa-mbv3-w1.0', got 5"),
        ({"e": [5] * 20}, r"expand must be one of \(3.0, 4.0, 6.0\).*got 5"),
        ({"ks": [0] * 20}, r"kernel must be one of"),
        ({"ks": [3.5] * 20}, r"ks must have whole numbers"),
        ({"ks": None}, r"ks must have 20 numbers, got None"),
        ({"r": 225}, r"resolution must be one of .* got 225"),
        ({"r": [128, 160]}, r"r must have 1 numbers"),
        ({"k": [3]}, r"unknown \['k'\]"),
    ],
)
def test_wrong_ofa_notation_is_an_error(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arch_from_ofa(W10, NOTATION | change)
    with pytest.raises(ValueError, match=r"missing \['d', 'e'\]"):
        arch_from_ofa(W10, {"ks": NOTATION["ks"]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": [16] * 8}, r"width must have 9 numbers"),
        ({"depth": [3] * 7}, r"stages.0.depth must be one of \(1, 2\)"),
        ({"kernel_size": [7] * 7}, r"kernel must be one of \(3, 5\).* got 7"),
        ({"depth": [2.5] * 7}, r"depth must have whole numbers"),
        ({"resolution": "224"}, r"resolution must have 1 numbers"),
        ({"resolution": 200}, r"resolution must be one of \(192, 224, 256, 288\)"),
        ({"ks": [3]}, r"unknown \['ks'\]"),
    ],
)
def test_wrong_attentivenas_notation_is_an_error(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arch_from_attentivenas(ATTENTIVENAS, STAGE_NOTATION | change)


def test_notation_of_another_space_is_an_error() -> None:
    with pytest.raises(ValueError, match="has them for each block"):
        arch_to_attentivenas(W10, W10.largest)
    with pytest.raises(ValueError):  # noqa: PT011 - the archs differ in every respect
        arch_to_ofa(W10, ATTENTIVENAS.largest)


@pytest.mark.parametrize(
    ("space", "content", "expected"),
    [
        (W10, NOTATION, arch_from_ofa(W10, NOTATION)),
        (ATTENTIVENAS, STAGE_NOTATION, ATTENTIVENAS.largest),
        (W10, json.loads(W10.smallest.to_json()), W10.smallest),
    ],
    ids=["ofa", "attentivenas", "ours"],
)
def test_file_can_have_any_notation(
    space: Space, content: dict[str, Any], expected: Arch, tmp_path: Path
) -> None:
    path = tmp_path / "arch.json"
    path.write_text(json.dumps(content))
    assert load_arch(space, path) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "arch.json is not JSON"),
        ("[1]", "arch.json: "),
        ('{"d": [2]}', r"arch.json: .*missing \['e', 'ks'\]"),
        (W10.smallest.to_json().replace("128", "129"), "resolution must be one of"),
    ],
)
def test_damaged_files_are_errors(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "arch.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_arch(W10, path)
    with pytest.raises(ValueError, match="cannot read the arch file"):
        load_arch(W10, tmp_path / "none.json")


def test_dynast_round_trip(rng: np.random.Generator, tmp_path: Path) -> None:
    space = search_spaces.get("vit-b16")
    for arch in space.decode(space.sample(rng, 20)):
        notation = arch_to_dynast(space, arch)
        assert [len(notation[key]) for key in ("num_attention_heads", "vit_intermediate_sizes")] == [12, 12]
        assert arch_from_dynast(space, json.loads(json.dumps(notation))) == arch
    (tmp_path / "arch.json").write_text(json.dumps(notation))
    assert load_arch(space, tmp_path / "arch.json") == arch
    (tmp_path / "arch.json").write_text('{"resolution": 224}')
    with pytest.raises(ValueError, match=r"arch\.json: an arch of the space 'vit-b16' must have a value"):
        load_arch(space, tmp_path / "arch.json")
    largest = {"num_layers": [12], "num_attention_heads": 12, "vit_intermediate_sizes": 3072}
    assert arch_from_dynast(space, largest) == space.largest
    shallow = largest | {"num_layers": 10, "num_attention_heads": [6] * 10 + [12] * 2}
    arch = arch_from_dynast(space, shallow)
    assert space.params(arch) < space.params(space.largest)
    assert arch_to_dynast(space, arch)["num_attention_heads"] == [6] * 10 + [12] * 2


@pytest.mark.parametrize(
    ("space", "change", "message"),
    [
        ("vit-b16", {"num_layers": 9}, "num_layers must be one of"),
        ("vit-b16", {"num_attention_heads": [12] * 11}, "num_attention_heads must have 12 numbers"),
        ("vit-b16", {"vit_intermediate_sizes": 1000}, "must be one of"),
        ("vit-b16", {"q_bits": 8}, "unknown"),
        ("autoformer-tiny", {}, "has no width, but the space 'autoformer-tiny' has several"),
        ("digits", {}, "for spaces of the family vit"),
    ],
)
def test_wrong_dynast_notation_is_an_error(space: str, change: dict[str, Any], message: str) -> None:
    largest = {"num_layers": 12, "num_attention_heads": 12, "vit_intermediate_sizes": 3072}
    with pytest.raises(ValueError, match=message):
        arch_from_dynast(search_spaces.get(space), largest | change)
