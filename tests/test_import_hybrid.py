"""Supernets of NASViT and ElasticViT: logits, names of tensors, and files that do not match."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import hybrid_checkpoints as hybrids
import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

import nas.importing
from nas.cli.main import main
from nas.importing.importers import has_statistics
from nas.importing.source_preprocess import source_preprocess
from nas.notation.elasticvit import arch_to_elasticvit
from nas.notation.nasvit import arch_to_nasvit
from nas.runs.run_dir import RunDir
from nas.torch_backend.supernet import Supernet
from search_spaces import Arch, Space


class Format(NamedTuple):
    """A source with its small supernet."""

    space: Mapping[str, Any]
    state: Callable[[int], hybrids.State]
    forward: Callable[[hybrids.State, Any, Tensor], Tensor]
    notation: Callable[[Space, Arch], Any]
    key: str
    """Key of the last weights; the moving average is `model_ema`."""


FORMATS = {
    "nasvit": Format(hybrids.NASVIT, hybrids.nasvit_state, hybrids.nasvit_forward, arch_to_nasvit, "model"),
    "elasticvit": Format(
        hybrids.ELASTICVIT,
        hybrids.elasticvit_state,
        hybrids.elasticvit_forward,
        arch_to_elasticvit,
        "state_dict",
    ),
}
SOURCES = pytest.mark.parametrize("source", FORMATS)


def load(source: str, tmp_path: Path, content: Any, key: str | None = None) -> Supernet:
    """Import a checkpoint in double precision."""
    torch.save(content, tmp_path / "weights.pth")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(dict(FORMATS[source].space)))
    path = str(tmp_path / "small.yaml")
    return nas.importing.load_supernet(source, tmp_path / "weights.pth", path, key=key).double()


@SOURCES
def test_logits_of_imported_supernets(source: str, tmp_path: Path, rng: np.random.Generator) -> None:
    form = FORMATS[source]
    state = form.state(0)
    supernet = load(source, tmp_path, {form.key: {f"module.{n}": t for n, t in state.items()}, "epoch": 3})
    assert not supernet.training
    assert has_statistics(supernet)
    space = supernet.space
    doubles = {name: tensor.double() for name, tensor in state.items()}
    x = torch.randn(2, 3, 44, 44, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    archs = [space.smallest, space.largest, *space.decode(space.sample(rng, 8))]
    assert {arch["resolution"] for arch in archs} == {40, 48}
    for arch in archs:
        notation = form.notation(space, arch)
        assert nas.importing.arch_from_notation(source, space, notation) == arch
        with torch.no_grad():
            ours, theirs = supernet(x, arch), form.forward(doubles, notation, x)
        assert theirs.std() > 1e-2
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * float(theirs.abs().max()))


@SOURCES
def test_moving_average_is_read_first(source: str, tmp_path: Path) -> None:
    form = FORMATS[source]
    content = {form.key: form.state(0), "model_ema": form.state(1)}
    first = next(name for name in form.state(0) if name.startswith("first_conv"))
    for key, seed in ((None, 1), (form.key, 0)):
        weight = load(source, tmp_path, content, key).get_parameter("stem.conv.weight")
        assert torch.equal(weight, form.state(seed)[first].double())


@SOURCES
def test_number_of_classes_is_that_of_the_file(source: str, tmp_path: Path) -> None:
    state = FORMATS[source].state(0)
    for name, tensor in state.items():
        if name.startswith("classif"):
            state[name] = torch.cat([tensor, tensor])
    assert load(source, tmp_path, state).space.config.outputs == 10


@SOURCES
def test_error_lists_all_tensors_that_do_not_match(source: str, tmp_path: Path) -> None:
    state = FORMATS[source].state(0)
    norm, other, last = [name for name in state if name.endswith("norm1.weight")][:3]
    del state[norm]
    state[last] = torch.zeros(3)
    state[f"{other}.more"] = torch.zeros(3)
    with pytest.raises(ValueError, match="does not match") as error:
        load(source, tmp_path, state)
    message = str(error.value)
    assert "\n" not in message
    for part in (
        f"1 missing ({norm})",
        f"1 surplus ({other}.more)",
        f"1 of another shape ({last} (3,) instead",
    ):
        assert part in message


@SOURCES
def test_other_files_are_errors(source: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no tensor has a name such as first_conv"):
        load(source, tmp_path, {"weight": torch.zeros(3)})
    state = FORMATS[source].state(0)
    with pytest.raises(ValueError, match="must be of the family hybrid, got 'digits' of the family 'mbconv'"):
        nas.importing.load_supernet(source, tmp_path / "weights.pth", "digits")
    torch.save(state, tmp_path / "weights.pth")
    content = (tmp_path / "weights.pth").read_bytes()
    (tmp_path / "weights.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="is truncated or not a checkpoint"):
        nas.importing.load_supernet(source, tmp_path / "weights.pth", str(tmp_path / "small.yaml"))


@SOURCES
def test_command_makes_a_run(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(source, tmp_path, FORMATS[source].state(0))
    options = ["--space", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", ["nas", "import", source, str(tmp_path / "weights.pth"), *options])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    run = RunDir(tmp_path / "run")
    assert run.space().config.family == "hybrid"
    imported = run.info().imported
    assert imported
    assert imported.source == source
    assert imported.subnets_trained
    assert run.info().preprocess == source_preprocess(source, "weights", 48)
