"""Subnets of one supernet against single networks of pruning tools, at equal latencies and training time.

    pip install torch-pruning nvidia-modelopt 'torchprofile<0.1'
    python -m benchmarks.against_pruning --data-root DIR --out OUT [--family resnet] [--width 0.25]
        [--epochs N] [--tools torch-pruning fastnas]

A network of `benchmarks.off_the_shelf_models` is trained alone on Fashion-MNIST for N epochs, as in
`benchmarks.against_off_the_shelf`. The limits are shares of its latency on this machine.

`supernet`: the network is imported, its subnets are trained with the recipe own-network for a quarter of the
epochs, this machine is profiled, and one search of 100 evaluations gives a measured front. Of the subnets
within each limit, the one with the highest validation accuracy is taken. The other tools make a separate
network for each limit (see `benchmarks.pruning_tools`), which is fine-tuned with the learning rate of
own-network. The fine-tuning of all these networks together takes as much CPU time as the training of the
supernet.

Everything runs on one thread. A result is written after each part; after an interruption, the same command
continues.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.off_the_shelf_models import FAMILIES
from benchmarks.off_the_shelf_training import SIZE, write_onnx
from benchmarks.pruning_tools import (
    DIVISOR,
    Batches,
    FastNas,
    TorchPruning,
    largest_within,
    train_for,
)
from benchmarks.training_strategies import once
from benchmarks.training_together import Member, measure, train_together
from hw_profiles.store import ProfileStore
from nas.data.batches import BatchPlan, plan_epoch, training_loader
from nas.data.catalog import get as get_dataset
from nas.data.dataset import Dataset
from nas.data.normalization import Normalization
from nas.devices.benchmark import benchmark
from nas.devices.profiling import profile_device
from nas.evaluation.trained_run import TrainedRun
from nas.importing.import_run import import_run
from nas.importing.torch_model.convert import convert
from nas.importing.torch_model.plan import Options
from nas.progress import Progress, shown
from nas.recipes import recipe as recipes
from nas.recipes.recipe import Recipe
from nas.runs.files import PROFILES
from nas.runs.run_dir import RunDir
from nas.search.options import SearchOptions
from nas.search.search_run import search_run
from nas.torch_backend.precision import CPU
from nas.training.train import train

LIMITS = (0.75, 0.5, 0.35)
"""Limits of the latency as shares of the network's own latency."""
EVALUATIONS = 100
DEVICE = "this-machine"
LR = 0.02
TIMED_STEPS = 10
"""Number of steps in which the time of a step is measured."""
SCORED = 1000
"""Number of validation images on which FastNAS ranks the layers."""
RECALIBRATION = 8
"""Number of batches for recalibrating the batch norms of networks that FastNAS tries."""
IMPORTED = "imported"
SUPERNET, TORCH_PRUNING, FASTNAS = "supernet", "torch-pruning", "fastnas"


class Comparison:
    """The parts of the comparison; each result is a file in `out`.

    Args:
        recipe: how the network is trained alone.
        network: makes the network with initial weights.
        out: folder of the results.
        progress: called after each unit of work.
    """

    def __init__(
        self, recipe: Recipe, network: Callable[[], nn.Module], out: Path, progress: Progress
    ) -> None:
        self.recipe, self.network, self.out, self.progress = recipe, network, out, progress
        self.dataset: Dataset = get_dataset(recipe.data.dataset, recipe.data.root)

    def original(self) -> tuple[nn.Module, dict[str, Any]]:
        """The network that was trained alone, and its accuracy and latency."""
        weights = self.out / "original.pth"
        network = self.network()

        def work() -> dict[str, Any]:
            torch.manual_seed(self.recipe.seed)
            network = self.network()
            (finite,) = train_together([Member(network, self.recipe, SIZE)], self.dataset, CPU, self.progress)
            assert finite
            torch.save(network.state_dict(), weights)
            return {"accuracy": self.accuracy(network), "latency_ms": self.latency(network)}

        result = once(self.out / "original.json", work)
        network.load_state_dict(torch.load(weights))
        return network.eval(), result

    def accuracy(self, network: nn.Module) -> float:
        """Accuracy on the test split."""
        return measure(Member(network, self.recipe, SIZE), self.dataset, "test", CPU, ["top1"])["top1"]

    def latency(self, network: nn.Module) -> float:
        """Latency on this machine, as `nas benchmark` measures it, in ms."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "network.onnx"
            write_onnx(network, file)
            (row,) = benchmark([file])
        return row.latency_ms

    # ------------------------------------------------------------------ this toolkit

    def supernet(self) -> tuple[TrainedRun, dict[str, Any]]:
        """The supernet of the network, and the CPU seconds of its training."""
        folder = self.out / "elastic"

        def work() -> dict[str, Any]:
            network, _ = self.original()
            for unfinished in (folder, self.out / IMPORTED):
                shutil.rmtree(unfinished, ignore_errors=True)
            original = self._imported(network)
            changes = {
                "init": str(original.path),
                "data.dataset": self.recipe.data.dataset,
                "data.root": self.recipe.data.root,
                "data.batch_size": self.recipe.data.batch_size,
                "epochs": max(1, self.recipe.epochs // 4),
                "optimizer.lr": LR,
                "compute.threads": 1,
            }
            begin = time.process_time()
            train(recipes.load("own-network").replace(changes), folder, progress=self.progress)
            return {"training_seconds": time.process_time() - begin}

        result = once(self.out / "elastic.json", work)
        return TrainedRun.open(folder), result

    def _imported(self, network: nn.Module) -> RunDir:
        options = Options(elastic=("expand", "depth", "width"), divisor=DIVISOR)
        converted = convert(network, [SIZE], options, sort=True, name="own")
        data = self.recipe.data
        return import_run(
            converted.supernet,
            self.out / IMPORTED,
            source="torch",
            checkpoint=None,
            dataset=data.dataset,
            data_root=data.root,
        )

    def subnets(self, limits_ms: Sequence[float]) -> list[dict[str, Any]]:
        """The best subnet within each limit, and the largest one."""
        run, _ = self.supernet()
        store = ProfileStore(run.run.file(PROFILES))
        if DEVICE not in store.names():
            profile_device(run.space, DEVICE, store, progress=self.progress)
        options = SearchOptions(budget=EVALUATIONS)
        front = search_run(run, store.load(DEVICE), options, progress=self.progress).front
        chosen = []
        for limit in limits_ms:
            within = front[front["latency_ms"] <= limit]
            if within.empty:
                raise ValueError(f"no subnet of the front has a latency of at most {limit:.4f} ms")
            chosen.append(within.sort_values("top1").iloc[-1])
        archs = [run.space.largest, *(row["arch"] for row in chosen)]
        tested = [row["top1"] for row in run.evaluator(split="test")(archs, "test")]
        rows = [
            {"accuracy": accuracy, "latency_ms": float(row["latency_ms"])}
            for accuracy, row in zip(tested[1:], chosen, strict=True)
        ]
        return [{"largest": tested[0]}, *rows]

    # ------------------------------------------------------------------ other tools

    def pruned(self, tool: str, limit_ms: float, seconds: float) -> dict[str, Any]:
        """A network of another tool within a limit, fine-tuned for some CPU seconds.

        The accuracy is None if the tool finds no network within the limit.
        """
        network, _ = self.original()
        make = self._maker(tool, network)
        found = largest_within(make, limit_ms, self.latency)
        if found is None:
            return {"accuracy": None}
        before = self.accuracy(found)
        batches = partial(self._batch, Normalization(self.dataset.preprocess, CPU), self._loader())
        begin = time.process_time()
        train_for(found, TIMED_STEPS, batches, 0.0)
        steps = int(TIMED_STEPS * seconds / (time.process_time() - begin))
        train_for(found, steps, batches, LR)
        return {
            "accuracy": self.accuracy(found),
            "latency_ms": self.latency(found),
            "untrained": before,
            "steps": steps,
        }

    def _maker(self, tool: str, network: nn.Module) -> Callable[[float], nn.Module | None]:
        image = torch.zeros(1, self.dataset.preprocess.channels, SIZE, SIZE)
        if tool == TORCH_PRUNING:
            return TorchPruning(network, image)
        normalize, load = Normalization(self.dataset.preprocess, CPU), self._loader()
        batches: Batches = [self._batch(normalize, load, step) for step in range(RECALIBRATION)]
        validation = self.dataset.split("validation")
        pixels = validation.pixels(np.arange(SCORED), self.dataset.preprocess, SIZE)
        x, y = normalize(torch.from_numpy(pixels)), torch.from_numpy(validation.targets[:SCORED])

        @torch.no_grad()
        def score(candidate: nn.Module) -> float:
            return float((candidate(x).argmax(dim=1) == y).float().mean())

        return FastNas(network, image, batches, score, self.out / "fastnas.pth")

    def _loader(self) -> Callable[[int], tuple[Tensor, Tensor]]:
        """Loads the augmented batch of a step, with pixel values 0..255."""
        loader = training_loader(self.dataset)
        epochs: dict[int, list[BatchPlan]] = {}

        def load(step: int) -> tuple[Tensor, Tensor]:
            n = len(self.dataset.split("train")) // self.recipe.data.batch_size
            if step // n not in epochs:
                epochs.clear()
                generator = torch.Generator().manual_seed(step // n)
                plans = plan_epoch(self.dataset, [SIZE], self.recipe.data.batch_size, generator)
                epochs[step // n] = plans
            (batch,) = loader([epochs[step // n][step % n]])
            return batch

        return load

    @staticmethod
    def _batch(
        normalize: Normalization, load: Callable[[int], tuple[Tensor, Tensor]], step: int
    ) -> tuple[Tensor, Tensor]:
        pixels, targets = load(step)
        return normalize(pixels), targets


def compare(comparison: Comparison, tools: Sequence[str]) -> pd.DataFrame:
    """A row for each tool and limit."""
    _, original = comparison.original()
    limits = [share * original["latency_ms"] for share in LIMITS]
    _, training = comparison.supernet()
    subnets = once(comparison.out / "subnets.json", lambda: {"rows": comparison.subnets(limits)})["rows"]
    rows: list[Mapping[str, Any]] = [
        {"tool": "the network itself", "limit": 1.0} | original,
        {"tool": "largest subnet", "limit": 1.0, "accuracy": subnets[0]["largest"]},
    ]
    rows += [{"tool": SUPERNET, "limit": share} | row for share, row in zip(LIMITS, subnets[1:], strict=True)]
    seconds = training["training_seconds"] / len(LIMITS)
    for tool in tools:
        for share, limit in zip(LIMITS, limits, strict=True):
            work = partial(comparison.pruned, tool, limit, seconds)
            rows.append({"tool": tool, "limit": share} | once(comparison.out / f"{tool}-{share}.json", work))
    return pd.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, required=True, help="folder of Fashion-MNIST")
    parser.add_argument("--out", type=Path, required=True, help="folder of networks and results")
    parser.add_argument("--family", choices=FAMILIES, default="resnet")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument(
        "--tools", nargs="*", choices=(TORCH_PRUNING, FASTNAS), default=(TORCH_PRUNING, FASTNAS)
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    changes = {"data.root": str(options.data_root), "epochs": options.epochs, "compute.threads": 1}
    recipe = recipes.load("fashion-mnist").replace(changes)
    options.out.mkdir(parents=True, exist_ok=True)
    with shown() as progress:
        make = partial(FAMILIES[options.family].make, options.width, 10)
        table = compare(Comparison(recipe, make, options.out, progress), options.tools)
    table.to_csv(options.out / "table.csv", index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
