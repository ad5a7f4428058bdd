from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch

from nas import tasks
from nas.data.batches import eval_batches
from nas.data.catalog import get as get_dataset
from nas.data.dataset import Dataset
from nas.evaluation import evaluate
from nas.evaluation.archive import Archive
from nas.evaluation.calibration import Calibration
from nas.evaluation.evaluate import Evaluator, measure
from nas.evaluation.workers import Threads
from nas.tasks.classification.metrics import METRICS
from nas.tasks.metrics import Accumulator, Direction
from nas.torch_backend.supernet import Supernet
from search_spaces import Arch, Space


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return get_dataset("digits")


@pytest.fixture(scope="module")
def supernet(tiny: Space) -> Supernet:
    """Of the tiny space, for digits."""
    return Supernet(tiny.with_data(outputs=10, channels=1), zero_init_residual=False)


@pytest.fixture
def archs(supernet: Supernet) -> list[Arch]:
    return supernet.space.decode(supernet.space.sample(np.random.default_rng(1), 6))


class Counting:
    """A metric that counts how often it is computed."""

    name = "cross_entropy"
    direction: Direction = "min"
    unit = "nats"

    def __init__(self) -> None:
        self.calls = 0

    def accumulator(self) -> Accumulator:
        self.calls += 1
        return METRICS["cross_entropy"].accumulator()


def make(supernet: Supernet, dataset: Dataset, path: Path, *, seed: int = 0) -> tuple[Evaluator, Counting]:
    counting = Counting()
    evaluator = Evaluator(
        supernet,
        dataset,
        tasks.get("classification"),
        Archive(path),
        {"cross_entropy": counting, "top1": METRICS["top1"]},
        calibration=Calibration(images=128, seed=seed),
    )
    return evaluator, counting


def test_measuring_does_not_depend_on_the_batches(supernet: Supernet, dataset: Dataset) -> None:
    net = supernet.extract(supernet.space.largest).eval()
    whole, parts = (
        measure(net, eval_batches(dataset, "validation", 8, batch_size), METRICS) for batch_size in (540, 50)
    )
    assert whole.keys() == METRICS.keys()
    assert parts == pytest.approx(whole, abs=1e-6)


def test_each_subnet_is_evaluated_once_and_results_come_in_order(
    supernet: Supernet, dataset: Dataset, archs: list[Arch], tmp_path: Path
) -> None:
    evaluator, counting = make(supernet, dataset, tmp_path / "archive.sqlite")
    first = evaluator([archs[0], archs[1], archs[0]], "random")
    assert counting.calls == 2
    assert first[0] == first[2] != first[1]
    again = evaluator(archs[:3][::-1], "search")
    assert counting.calls == 3
    assert again[1:] == [first[1], first[0]]
    assert evaluator.archive.frame()["origin"].tolist() == ["random", "random", "search"]
    reopened, silent = make(supernet, dataset, tmp_path / "archive.sqlite")
    assert reopened(archs[:2], "random") == first[:2]
    assert silent.calls == 0


def test_results_depend_neither_on_workers_nor_on_order(
    supernet: Supernet, dataset: Dataset, archs: list[Arch], tmp_path: Path
) -> None:
    one, _ = make(supernet, dataset, tmp_path / "one.sqlite")
    two, _ = make(supernet, dataset, tmp_path / "two.sqlite")
    threads = [two(archs, "random", workers=Threads(2)), one(archs[::-1], "random", workers=Threads(1))[::-1]]
    assert threads[0] == threads[1]


def test_torch_has_as_many_threads_afterwards(
    supernet: Supernet, dataset: Dataset, archs: list[Arch], tmp_path: Path
) -> None:
    evaluator, _ = make(supernet, dataset, tmp_path / "archive.sqlite")
    before, seen = torch.get_num_threads(), []
    try:
        torch.set_num_threads(2)
        evaluator(archs[:1], "random")
        thread = Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
    finally:
        torch.set_num_threads(before)
    assert seen == [2]


def test_other_calibration_images_are_another_evaluation(
    supernet: Supernet, dataset: Dataset, archs: list[Arch], tmp_path: Path
) -> None:
    first, _ = make(supernet, dataset, tmp_path / "archive.sqlite")
    second, counting = make(supernet, dataset, tmp_path / "archive.sqlite", seed=1)
    assert first(archs[:1], "random") != second(archs[:1], "random")
    assert counting.calls == 1
    assert first.archive.frame()["calibration"].tolist() == ["default:128:seed0", "default:128:seed1"]


def test_interrupted_evaluations_lose_one_group(
    supernet: Supernet, dataset: Dataset, archs: list[Arch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, _ = make(supernet, dataset, tmp_path / "undisturbed.sqlite")
    expected = undisturbed(archs, "random")
    evaluator, _ = make(supernet, dataset, tmp_path / "archive.sqlite")
    monkeypatch.setattr(evaluate, "GROUP", 2)

    def interrupt(what: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluator(archs, "random", workers=Threads(2), progress=interrupt)
    assert len(evaluator.archive.frame()) == 4
    resumed, counting = make(supernet, dataset, tmp_path / "archive.sqlite")
    assert resumed(archs, "random") == expected
    assert counting.calls == len(archs) - 4


def test_a_subnet_comes_with_the_metrics_that_the_archive_then_has(
    supernet: Supernet, dataset: Dataset, archs: list[Arch], tmp_path: Path
) -> None:
    evaluator, counting = make(supernet, dataset, tmp_path / "archive.sqlite")
    for _ in range(2):
        net, metrics = evaluator.subnet_and_metrics(archs[0], "export")
        assert counting.calls == 1
        assert evaluator(archs[:1], "random") == [metrics]
        for name, tensor in evaluator.subnet(archs[0]).state_dict().items():
            torch.testing.assert_close(net.state_dict()[name], tensor)


def test_subnet_inherits_weights_and_leaves_the_supernet_alone(
    supernet: Supernet, dataset: Dataset, archs: list[Arch], tmp_path: Path
) -> None:
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    evaluator, _ = make(supernet, dataset, tmp_path / "archive.sqlite")
    net = evaluator.subnet(archs[0])
    inherited = dict(supernet.extract(archs[0]).named_parameters())
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter, inherited[name])
    for name, tensor in supernet.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_arch_of_another_space_is_refused(supernet: Supernet, dataset: Dataset, tmp_path: Path) -> None:
    evaluator, counting = make(supernet, dataset, tmp_path / "archive.sqlite")
    with pytest.raises(ValueError, match="must have a value for each active choice"):
        evaluator([Arch({"resolution": 8})], "random")
    assert counting.calls == 0
    assert evaluator.archive.frame().empty
