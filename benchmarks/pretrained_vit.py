"""Subnets of a pretrained vision transformer on Fashion-MNIST, with three orders of heads and neurons.

    python -m benchmarks.pretrained_vit --data-root DIR --out OUT [--seeds N ...] [--epochs N] [--orders ...]

A small transformer of torchvision is trained alone, imported, and made elastic with the recipe
pretrained-vit in a quarter of its epochs. Among 20 random subnets with 45 to 50 % of its MACs, the best on
the validation split is evaluated on the test split, after the training and with the weights from before it.
Each seed has its own network and trainings. A result is written after each training; after an interruption,
the same command continues.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import VisionTransformer

from benchmarks.augmented_batches import augmented_batches
from hw_profiles.atomic_write import replace_file
from nas.data.batches import eval_batches
from nas.data.catalog import get as get_dataset
from nas.data.dataset import Dataset
from nas.evaluation.trained_run import TrainedRun
from nas.importing.import_run import import_run
from nas.importing.importers import load_supernet
from nas.recipes import recipe as recipes
from nas.runs.run_dir import RunDir
from nas.runs.weights import trained_weights
from nas.torch_backend.supernet import Supernet
from nas.training.pretrained import ordering_images, sort_by_importance
from nas.training.train import train
from search_spaces import Arch, Space

SPACE = """\
family: vit
name: fashion-vit
outputs: 10
channels: 1
resolutions: [28]
patch: 7
width: [48]
depth: [3, 4, 5, 6]
heads: [1, 2, 3]
head_dim: 16
mlp: [48, 96, 144]
"""
SIDE, BATCH, EVALUATION_BATCH = 28, 128, 500
LR, WEIGHT_DECAY = 2e-3, 0.05
ORDERS = ("taylor", "norm", "none")
SHARES = 0.45, 0.50
"""Range of the MACs of the candidate subnets, relative to the whole network."""
N_CANDIDATES = 20


def network() -> VisionTransformer:
    """The transformer, for images with one channel."""
    net = VisionTransformer(
        image_size=SIDE, patch_size=7, num_layers=6, num_heads=3, hidden_dim=48, mlp_dim=144, num_classes=10
    )
    net.conv_proj = nn.Conv2d(1, 48, kernel_size=7, stride=7)
    nn.init.trunc_normal_(net.conv_proj.weight, std=1 / 7)
    nn.init.zeros_(net.conv_proj.bias)
    nn.init.trunc_normal_(net.heads.head.weight, std=0.02)
    return net


def train_alone(data: Dataset, epochs: int, seed: int) -> nn.Module:
    """The transformer, trained with the augmentation of the data set."""
    torch.manual_seed(seed)
    net: nn.Module = network()
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    n_batches = len(data.split("train")) // BATCH
    optimizer = torch.optim.AdamW(net.parameters(), LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=epochs * n_batches)
    for epoch in range(epochs):
        for x, targets in augmented_batches(data, SIDE, BATCH, rng, generator):
            optimizer.zero_grad()
            F.cross_entropy(net(x), targets).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        print(f"trained alone, seed {seed}: {epoch + 1}/{epochs} epochs", flush=True)
    net.eval()
    return net


def imported(data_root: Path, epochs: int, seed: int, out: Path) -> RunDir:
    """The run of the imported transformer, which is trained first if it is missing."""
    folder = out / f"original-{seed}"
    if folder.is_dir():
        return RunDir.open(folder)
    weights, space = out / f"original-{seed}.pth", out / "fashion-vit.yaml"
    space.write_text(SPACE, encoding="utf-8")
    if not weights.exists():
        data = get_dataset("fashion-mnist", data_root)
        torch.save(train_alone(data, epochs, seed).state_dict(), weights)
    supernet = load_supernet("torchvision", weights, str(space))
    return import_run(
        supernet,
        folder,
        source="torchvision",
        checkpoint=weights,
        dataset="fashion-mnist",
        data_root=data_root,
    )


def half_of_macs(space: Space, seed: int) -> list[Arch]:
    """Different random subnets with about half of the MACs of the largest one."""
    low, high = (share * space.macs(space.largest) for share in SHARES)
    archs = space.decode(space.sample(np.random.default_rng(seed), 2000))
    fitting = [arch for arch in dict.fromkeys(archs) if low <= space.macs(arch) <= high]
    return fitting[:N_CANDIDATES]


def measure(original: RunDir, order: str, epochs: int, seed: int, out: Path) -> dict[str, float]:
    """Accuracies on the test split after a training of the subnets."""
    changes = {"init": str(original.path), "data.dataset": "fashion-mnist", "epochs": epochs, "seed": seed}
    changes |= {"data.root": original.info().data_root, "data.batch_size": BATCH, "ordering.kind": order}
    changes |= {"optimizer.lr": LR, "compute.threads": torch.get_num_threads()}
    recipe = recipes.load("pretrained-vit").replace(changes)
    run = TrainedRun.open(train(recipe, out, resume=out.is_dir()).path)
    candidates = half_of_macs(run.space, seed)
    validation = [row["top1"] for row in run.evaluator(split="validation")(candidates, "validation")]
    half = candidates[int(np.argmax(validation))]
    tested = run.evaluator(split="test")([run.space.largest, half, run.space.smallest], "test")
    start = Supernet(run.space).eval()
    start.load_state_dict(trained_weights(original))
    images = ordering_images(recipe, run.space, run.dataset, torch.device("cpu"))
    sort_by_importance(start, order, images, run.task.loss)
    return {
        "original": accuracy(start, run.space.largest, run.dataset),
        "largest": tested[0]["top1"],
        "half": tested[1]["top1"],
        "half untrained": accuracy(start, half, run.dataset),
        "smallest": tested[2]["top1"],
        "share of MACs": run.space.macs(half) / run.space.macs(run.space.largest),
    }


@torch.no_grad()
def accuracy(supernet: Supernet, arch: Arch, data: Dataset) -> float:
    """Share of the test images that a subnet classifies correctly."""
    net = supernet.extract(arch).eval()
    batches = eval_batches(data, "test", SIDE, EVALUATION_BATCH)
    return sum(int((net(x).argmax(dim=1) == y).sum()) for x, y in batches) / len(data.split("test"))


def table(rows: pd.DataFrame) -> list[str]:
    """Markdown: a row for each order, with means ± standard deviations over seeds in percent."""

    def cell(values: pd.Series) -> str:
        spread = f" ± {100 * values.std():.1f}" if len(values) > 1 else ""
        return f"{100 * values.mean():.1f}{spread}"

    rows = rows.assign(difference=rows["half"] - rows["original"])
    columns = ["original", "largest", "half", "difference", "half untrained", "smallest", "share of MACs"]
    lines = ["| order | seeds | " + " | ".join(columns) + " |", "|" + "---|" * (len(columns) + 2)]
    for order, group in rows.groupby("order", sort=False):
        lines.append(
            f"| {order} | {len(group)} | " + " | ".join(cell(group[name]) for name in columns) + " |"
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, required=True, help="folder of Fashion-MNIST")
    parser.add_argument("--out", type=Path, required=True, help="folder of networks, runs and results")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--epochs", type=int, default=8, help="epochs of the network that is trained alone")
    parser.add_argument("--orders", nargs="+", choices=ORDERS, default=ORDERS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in options.seeds:
        original = imported(options.data_root, options.epochs, seed, options.out)
        for order in options.orders:
            result, folder = options.out / f"{order}-{seed}.json", options.out / f"{order}-{seed}"
            if not result.exists():
                found = measure(original, order, max(1, options.epochs // 4), seed, folder)
                replace_file(result, json.dumps({"order": order, "seed": seed} | found))
            rows.append(json.loads(result.read_text(encoding="utf-8")))
            print(rows[-1], flush=True)
    print(*table(pd.DataFrame(rows)), sep="\n")


if __name__ == "__main__":
    main()
