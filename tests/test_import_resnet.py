"""OFA's ResNet50-D: weights and notation."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import published
import pytest
import torch
from published import agree, images, save

import search_spaces
from nas.importing.importers import has_statistics, load_supernet
from nas.notation.arch_file import load_arch
from nas.notation.ofa import arch_from_ofa, arch_to_ofa

SPACE = search_spaces.get("ofa-resnet50")
LARGEST = {"d": [2] * 5, "e": [0.35] * 18, "w": [2] * 6}


def random_code(rng: np.random.Generator) -> dict[str, Any]:
    """A random notation as OFA samples it, with all published codes of the stem."""
    return {
        "d": [int(rng.choice([0, 2])), *rng.integers(0, 3, 4).tolist()],
        "e": rng.choice([0.2, 0.25, 0.35], 18).tolist(),
        "w": rng.integers(0, 3, 6).tolist(),
    }


@pytest.mark.slow
def test_logits_of_an_imported_supernet(tmp_path: Path, rng: np.random.Generator) -> None:
    state = published.resnet_state()
    assert len(state) == 368  # as many tensors as the published file has
    supernet = load_supernet("ofa", save(tmp_path / "resnet.pt", state), "ofa-resnet50")
    assert not supernet.training
    assert has_statistics(supernet)
    smallest = {"d": [0] * 5, "e": [0.2] * 18, "w": [0] * 6}
    for code in (LARGEST, smallest, *(random_code(rng) for _ in range(3))):
        for size in (128, 132):  # 132: odd feature maps, for which pooling rounds up
            x = images(1, size)
            with torch.no_grad():
                ours = supernet(x, arch_from_ofa(SPACE, code | {"r": [size]}))
                agree(ours, published.resnet_forward(state, code, x))


def test_notation_round_trip(rng: np.random.Generator) -> None:
    for arch in SPACE.decode(SPACE.sample(rng, 50)):
        code = arch_to_ofa(SPACE, arch)
        assert arch_from_ofa(SPACE, json.loads(json.dumps(code))) == arch
    assert arch_from_ofa(SPACE, LARGEST | {"r": 224}) == SPACE.largest
    assert arch_from_ofa(SPACE, {"d": 2, "e": 0.35, "w": 2}) == SPACE.largest


def test_codes_of_equal_networks_are_one_arch(rng: np.random.Generator) -> None:
    code = random_code(rng)
    first, second = ({**code, "w": [mid, *code["w"][1:]]} for mid in (0, 1))
    assert arch_from_ofa(SPACE, first) == arch_from_ofa(SPACE, second)
    skipped, also = ({**code, "d": [stem, *code["d"][1:]]} for stem in (0, 1))
    assert arch_from_ofa(SPACE, skipped) == arch_from_ofa(SPACE, also)


def test_notation_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "arch.json").write_text(json.dumps(LARGEST | {"r": [224]}))
    assert load_arch(SPACE, tmp_path / "arch.json") == SPACE.largest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d": [3, 2, 2, 2, 2]}, r"each d must be an index of \(2, 2, 3\) at its position, got 3"),
        ({"d": [2, 2, 2, 2, 3]}, r"each d must be an index of \(2, 3, 4\) at its position, got 3"),
        (
            {"w": [2, 2, 2, 2, 2, -1]},
            r"each w must be an index of \(1328, 1640, 2048\) at its position, got -1",
        ),
        ({"w": [2] * 5}, "w must have 6 numbers"),
        ({"e": [0.3] * 18}, r"expand must be one of \(0.2, 0.25, 0.35\)"),
        ({"r": 225}, "resolution must be one of"),
        ({"wide": 1}, r"unknown \['wide'\]"),
    ],
)
def test_wrong_notation_is_an_error(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arch_from_ofa(SPACE, LARGEST | change)
