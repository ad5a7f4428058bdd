"""The study of a searched front against published networks, at a tiny setting."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_device
from idx_files import write_fashion_mnist
from torch import nn

from benchmarks import against_off_the_shelf, inherited_against_alone
from benchmarks.against_off_the_shelf import compare, evaluate_front, text
from benchmarks.front_plot import svg
from benchmarks.off_the_shelf_models import FAMILIES
from benchmarks.off_the_shelf_training import BASELINES_CSV, Baselines, train_baselines
from benchmarks.training_together import Member, train_together
from nas.data import fashion_mnist
from nas.data.catalog import get as get_dataset
from nas.evaluation.trained_run import TrainedRun
from nas.recipes import recipe
from nas.recipes.recipe import Recipe
from nas.report.comparison import read_comparison
from nas.search.options import SearchOptions
from nas.search.search_run import search_run
from nas.training.train import train

SPACE = """\
name: tiny
outputs: 10
channels: 1
resolutions: [12, 28]
stem: {width: [8], stride: 2, activation: relu}
stages:
  - {width: [8, 16], depth: [1, 2], kernel: [3], expand: [1, 2], stride: 2, activation: relu}
head: {width: [8, 16], activation: relu}
"""


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe of one epoch on 170 images."""
    monkeypatch.setattr(fashion_mnist, "VALIDATION", 30)
    write_fashion_mnist(tmp_path / "data", n_train=200, n_test=50)
    (tmp_path / "space.yaml").write_text(SPACE)
    changes = [f"space={tmp_path / 'space.yaml'}", f"data.root={tmp_path / 'data'}", "epochs=1"]
    return recipe.load(
        "fashion-mnist", [*changes, "data.batch_size=32", "compute={accelerator: cpu, threads: 1}"]
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_networks_read_grey_images_and_end_with_maps_of_four_pixels(name: str) -> None:
    sizes: list[int] = []
    parameters = []
    for width in FAMILIES[name].widths[:2]:
        net = FAMILIES[name].make(width, 10).eval()
        convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
        for layer in convolutions:
            layer.register_forward_hook(lambda _layer, _inputs, output: sizes.append(output.shape[-1]))
        assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
        parameters.append(sum(weight.numel() for weight in net.parameters()))
    assert parameters[0] < parameters[1]
    last = {"resnet": 7}.get(name, 4)  # 28 halved twice by the resnet, three times by the others
    assert min(size for size in sizes if size > 1) == last  # squeeze-and-excitation has maps of one pixel


def test_plot_has_a_circle_for_each_point_and_is_escaped() -> None:
    picture = svg({"a<b": [(1.0, 0.9), (0.1, 0.8)]}, {"other": [(0.5, 0.85)]})
    assert picture.count("<circle") == 3 + 2  # and one in each line of the legend
    assert "a&lt;b" in picture


def test_comparison_names_the_best_subnet_that_is_not_slower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = pd.DataFrame(
        {
            "model": ["a", "b"],
            "family": "net",
            "accuracy": [0.5, 0.9],
            "file": "",
        }
    )
    front = pd.DataFrame(
        {
            "model": ["x", "y"],
            "inherited": [0.6, 0.8],
            "finetuned": [np.nan, 0.9],
            "finetuning_seconds": [np.nan, 36.0],
            "file": "",
        }
    )
    monkeypatch.setattr(against_off_the_shelf, "baselines", lambda _: models)
    front.to_csv(tmp_path / "front.csv", index=False)
    (tmp_path / "supernet.json").write_text('{"largest": 0.9, "smallest": 0.5}')
    latencies = {"a": 0.5, "b": 4.0, "x": 1.0, "y": 2.0}
    monkeypatch.setattr(against_off_the_shelf, "measure_latencies", lambda *_: latencies)
    hours = {"supernet_hours": 2.0, "models_hours": 1.0, "models_tuning_hours": 0.2}
    monkeypatch.setattr(against_off_the_shelf, "training_hours", lambda _: hours)
    result = compare(tmp_path)
    assert [row["inherited_percent"] for row in result["models"]] == [None, pytest.approx(80)]
    assert [row["finetuned_percent"] for row in result["models"]] == [None, pytest.approx(90)]
    # the reference is 1.05 times the worst error and latency, (0.525, 4.2). The front covers
    # (0.525 - 0.4) (4.2 - 1) + 0.2 (4.2 - 2) = 0.84, the models 0.025 · 3.7 + 0.4 · 0.2 = 0.1725,
    # the fine-tuned subnet (0.525 - 0.1) (4.2 - 2) = 0.935
    ratios = result["hypervolume_over_all_models"]
    assert ratios == pytest.approx({"inherited": 0.84 / 0.1725, "fine-tuned": 0.935 / 0.1725})
    assert result["finetuning_hours"] == pytest.approx(0.01)
    assert result["supernet_hours"] == 2.0
    assert "| a | 0.500 | 50.00 % | - | - |" in text(result)
    assert read_comparison(tmp_path / "off_the_shelf.csv")["model"].tolist() == ["a", "b"]


def test_networks_that_train_together_are_those_trained_one_by_one(short: Recipe) -> None:
    def trained(sizes: list[int], together: bool, device: str = "cpu") -> list[dict[str, torch.Tensor]]:
        dataset = get_dataset(short.data.dataset, short.data.root, short.data.split_seed)
        members = []
        for i, size in enumerate(sizes):
            torch.manual_seed(i)
            net = FAMILIES["resnet"].make(0.125, 10)
            members.append(Member(net, short.replace({"optimizer.lr": 0.01 * (i + 1)}), size))
        for group in [members] if together else [[member] for member in members]:
            assert all(train_together(group, dataset, torch.device(device)))
        return [member.net.cpu().state_dict() for member in members]

    together, one_by_one = (trained([20, 28], way) for way in (True, False))
    for left, right in zip(together, one_by_one, strict=True):
        assert all(torch.equal(left[name], right[name]) for name in left)
    if torch.cuda.is_available():
        for left, right in zip(trained([20, 28], True, "cuda"), together, strict=True):
            for name in left:
                torch.testing.assert_close(left[name], right[name], rtol=0.02, atol=0.02)


@pytest.mark.slow
def test_whole_study_goes_on_after_an_interruption(short: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "study"
    widths = {"resnet": [0.125, 0.1875]}
    baselines = Baselines(short, widths, learning_rates=(0.05, 0.1), weight_decays=(1e-4,), tuning_epochs=1)
    first = train_baselines(baselines, out)
    assert first["width"].tolist() == [0.125, 0.1875]
    assert first["accuracy"].between(0, 1).all()
    assert (out / BASELINES_CSV).is_file()
    (out / "models" / "resnet-0.1875.json").unlink()  # as after an interruption
    status = (out / "models" / "resnet-0.125.json").stat()
    again = train_baselines(baselines, out)
    assert (out / "models" / "resnet-0.125.json").stat() == status
    pd.testing.assert_series_equal(again["accuracy"], first["accuracy"])

    trained = TrainedRun.open(train(short, tmp_path / "run").path)
    search_run(trained, make_device(trained.space), SearchOptions(budget=20), measure=False)
    changes = {"epochs": 1, "schedule.warmup_epochs": 0}
    front = evaluate_front(trained.run.path, out, changes=changes, n_finetuned=1)
    assert front["finetuned"].notna().sum() == 1
    result = compare(out)
    assert len(result["models"]) == 2
    # two trials and two trainings, each of one epoch; the trials have the wider network
    assert result["models_tuning_hours"] > result["models_hours"] > 0
    assert result["supernet_hours"] > 0
    assert all(0 < row["ms"] < 1000 for row in result["models"])
    assert compare(out)["models"] == result["models"]  # latencies are measured once


@pytest.mark.slow
def test_inherited_against_alone(short: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "study"
    supernet = train(short, tmp_path / "run").path
    rows = inherited_against_alone.study(out, short, 3, ["uniform"], [supernet])
    assert [row["supernet"] for row in rows] == [str(supernet), "uniform"]
    for row in rows:
        assert row["gap_points"] == pytest.approx(row["inherited_percent"] - row["alone_percent"])
        assert row["ceiling"] == rows[0]["ceiling"]
    next((out / "alone").iterdir()).unlink()  # as after an interruption
    assert inherited_against_alone.study(out, short, 3, ["uniform"], [supernet]) == rows
    assert len(inherited_against_alone.table(rows).splitlines()) == 2 + 2
