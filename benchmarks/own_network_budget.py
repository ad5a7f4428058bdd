"""Accuracy of the subnets of an imported network for several lengths of their training, on the digits.

    python -m benchmarks.own_network_budget [--seeds N] [--epochs N ...] [--out FILE]

A small ResNet is trained alone, imported, and trained with the recipe own-network. The tables have means and
standard deviations over seeds; each seed has its own network and training.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.augmented_batches import augmented_batches
from nas.data.catalog import get as get_dataset
from nas.evaluation.trained_run import TrainedRun
from nas.importing.import_run import import_run
from nas.importing.torch_model.convert import convert
from nas.importing.torch_model.plan import Options
from nas.recipes import recipe as recipes
from nas.report.before_training import evaluate_before_training
from nas.runs.run_dir import RunDir
from nas.training.train import train

SIDE, BATCH = 8, 64
ORIGINAL_EPOCHS = 40
ORIGINAL_LR = 0.1
EPOCHS = (1, 4, 10)
N_RANDOM = 10
GROUPS = ("largest", "random", "smallest")


class Block(nn.Module):
    """Two convolutions with a shortcut, which has a convolution if the shape changes."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out)
        self.conv2, self.bn2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False), nn.BatchNorm2d(c_out)
        same = c_in == c_out and stride == 1
        self.shortcut: nn.Module = nn.Identity() if same else nn.Conv2d(c_in, c_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps (n, c_in, h, w) -> (n, c_out, h / stride, w / stride)."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


def network() -> nn.Sequential:
    """A ResNet for images of 8 pixels, with three and two blocks in its stages."""
    stages = [(8, 8, 1), (8, 8, 1), (8, 8, 1), (8, 16, 2), (16, 16, 1)]
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 1, 1),
        nn.ReLU(),
        *(Block(*stage) for stage in stages),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


def train_alone(seed: int) -> nn.Module:
    """The network, trained with the augmentation of the data set."""
    torch.manual_seed(seed)
    model, data = network(), get_dataset("digits")
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    steps = ORIGINAL_EPOCHS * (len(data.split("train")) // BATCH)
    optimizer = torch.optim.SGD(
        model.parameters(), ORIGINAL_LR, momentum=0.9, weight_decay=1e-4, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, ORIGINAL_LR, total_steps=steps)
    for _ in range(ORIGINAL_EPOCHS):
        for x, targets in augmented_batches(data, SIDE, BATCH, rng, generator):
            optimizer.zero_grad()
            F.cross_entropy(model(x), targets).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def import_network(model: nn.Module, out: Path) -> RunDir:
    """The run of the imported network."""
    converted = convert(
        model, [SIDE], Options(ratios=(0.25, 0.5, 0.75, 1.0), divisor=2), sort=True, name="resnet-digits"
    )
    return import_run(converted.supernet, out, source="torch", checkpoint=None, dataset="digits")


def measure(original: RunDir, epochs: int, seed: int, out: Path) -> dict[str, float]:
    """Accuracy on the test split by group of subnets, after a training of the subnets."""
    changes = {"init": str(original.path), "data.dataset": "digits", "epochs": epochs, "seed": seed}
    changes |= {"data.batch_size": BATCH, "compute.threads": torch.get_num_threads()}
    run = TrainedRun.open(train(recipes.load("own-network").replace(changes), out).path)
    space = run.space
    random = space.decode(space.sample(np.random.default_rng(seed), N_RANDOM))
    results = run.evaluator(split="test")([space.largest, space.smallest, *random], "test")
    largest, smallest, *others = (result["top1"] for result in results)
    before = evaluate_before_training(run).set_index("group")["top1"]
    return {
        "original": before["original"],
        "untrained": before["untrained"],
        "largest": largest,
        "random": float(np.mean(others)),
        "smallest": smallest,
    }


def table(rows: pd.DataFrame) -> list[str]:
    """Markdown: a row for each number of epochs, with means ± standard deviations over seeds in percent."""

    def cell(values: pd.Series) -> str:
        return f"{100 * values.mean():.1f} ± {100 * values.std():.1f}"

    header = ["epochs", "of the original's", "largest", f"mean of {N_RANDOM} random", "smallest"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    first = rows[rows["epochs"] == rows["epochs"].min()]
    lines.append(f"| 0 | 0 % | {cell(first['original'])} | | {cell(first['untrained'])} |")
    for epochs, group in rows.groupby("epochs"):
        share = f"{100 * int(str(epochs)) / ORIGINAL_EPOCHS:.3g} %"
        lines.append(f"| {epochs} | {share} | " + " | ".join(cell(group[name]) for name in GROUPS) + " |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, nargs="+", default=EPOCHS)
    parser.add_argument("--out", type=Path, help="also write the measurements to this CSV file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            original = import_network(train_alone(seed), Path(folder) / "original")
            for epochs in options.epochs:
                found = measure(original, epochs, seed, Path(folder) / f"epochs-{epochs}")
                rows.append({"seed": seed, "epochs": epochs} | found)
                print(rows[-1], flush=True)
    frame = pd.DataFrame(rows)
    if options.out:
        frame.to_csv(options.out, index=False)
    print(*table(frame), sep="\n")


if __name__ == "__main__":
    main()
