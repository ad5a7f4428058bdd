from pathlib import Path

import numpy as np
import pytest
import torch

import search_spaces
from search_spaces import Arch, Space, StageArch

TINY_YAML = """\
name: tiny
classes: 3
channels: 1
resolutions: [6, 8]
divisor: 2
stem: {width: [2, 4], stride: 1, activation: relu}
stages:
  - {width: [2, 4], depth: [1, 2], kernel: [3, 5], expand: [1, 2], stride: 2, activation: relu}
  - {width: [6], depth: [1, 2], expand: [1, 2], per: stage, stride: 2, activation: hard_swish, se: true}
head: {width: [6, 8], activation: hard_swish}
"""

TINY_ARCH = Arch(
    resolution=8,
    stem_width=4,
    stages=(StageArch(4, (3, 5), (1, 2)), StageArch(6, (3,), (2,))),
    head_width=6,
)


@pytest.fixture(scope="session")
def tiny() -> Space:
    """A space that can be enumerated, with every kind of choice and block: 1,280 subnets, 11 genes."""
    return search_spaces.parse(TINY_YAML)


@pytest.fixture(scope="session")
def tiny_arch() -> Arch:
    """A subnet of `tiny` with an expansion, a shortcut and an SE branch."""
    return TINY_ARCH


@pytest.fixture(scope="session", params=["tiny", *search_spaces.names()])
def space(request: pytest.FixtureRequest) -> Space:
    """Each space that is shipped, and the tiny one."""
    name: str = request.param
    return search_spaces.parse(TINY_YAML) if name == "tiny" else search_spaces.get(name)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Several threads cost small networks more than they bring, and change the last bits of sums."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is read from the user's folders or written there."""
    monkeypatch.setenv("NAS_HOME", str(tmp_path / "nas_home"))
