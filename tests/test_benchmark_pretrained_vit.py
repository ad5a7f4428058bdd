"""The benchmark of subnets of a pretrained vision transformer, at a tiny setting."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from idx_files import write_fashion_mnist

from benchmarks import pretrained_vit
from nas.data import fashion_mnist
from nas.data.batches import eval_batches
from nas.data.catalog import get as get_dataset
from search_spaces import parse


def test_candidates_have_half_of_the_macs() -> None:
    space = parse(pretrained_vit.SPACE)
    archs = pretrained_vit.half_of_macs(space, seed=0)
    assert len(set(archs)) == pretrained_vit.N_CANDIDATES
    shares = np.array([space.macs(arch) for arch in archs]) / space.macs(space.largest)
    assert ((shares >= 0.45) & (shares <= 0.5)).all()


@pytest.mark.slow
def test_results_are_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fashion_mnist, "VALIDATION", 30)
    write_fashion_mnist(tmp_path / "data", n_train=300, n_test=50)
    arguments = ["--data-root", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--seeds", "0"]
    arguments += ["--epochs", "1", "--orders", "norm"]
    pretrained_vit.main(arguments)
    row, table = json.loads((tmp_path / "out" / "norm-0.json").read_text()), capsys.readouterr().out
    network = pretrained_vit.network().eval()
    network.load_state_dict(torch.load(tmp_path / "out" / "original-0.pth"))
    data = get_dataset("fashion-mnist", tmp_path / "data")
    (images, targets), *_ = eval_batches(data, "test", pretrained_vit.SIDE, 50)
    assert row["original"] == (network(images).argmax(dim=1) == targets).float().mean()
    assert 0.45 <= row["share of MACs"] <= 0.5
    assert f"| norm | 1 | {100 * row['original']:.1f} |" in table
    monkeypatch.delattr(pretrained_vit, "train")
    pretrained_vit.main(arguments)
    assert capsys.readouterr().out.splitlines()[-1] == table.splitlines()[-1]
