"""Time and memory of the evaluation of many subnets on images from files.

    python -m benchmarks.evaluation_engine
    python -m benchmarks.evaluation_engine --against CHECKOUT
    python -m benchmarks.evaluation_engine --subnets 4 --validation-images 60 --calibration-images 40

JPEG files with the size and the texture of photographs are made in a temporary folder. Random subnets with
random weights are evaluated on them as in a search: BN recalibration, then the validation split. The time is
compared with a lower bound: the sum of the forward passes of all subnets at their best batch size, over as
many images as recalibration and evaluation have together, plus one pass that decodes each image and resizes
it to the resolution of each subnet. The forward passes are those of the plain static network in eval mode; a
second ratio uses the folded network of the evaluation. All work uses all cores that the process may use.

With --against, the same subnets are also evaluated by the code of another checkout. The two checkouts
alternate, each in its own process; the ratio of the times and the largest difference of the cross-entropies
are printed.

"wall" is the elapsed time in seconds, "cpu" is the CPU time in seconds divided by the number of cores, which
depends less on other processes. Each number is the minimum over the repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

import search_spaces
from hw_profiles.measuring.runner.process_limits import usable_cores
from nas import tasks
from nas.data.catalog import get as get_dataset
from nas.data.dataset import Dataset
from nas.evaluation.archive import Archive
from nas.evaluation.calibration import Calibration
from nas.evaluation.evaluate import Evaluator
from nas.torch_backend.allocator import keep_freed_memory
from nas.torch_backend.supernet import Supernet
from search_spaces import Arch

WIDTH, HEIGHT = 500, 375
CLASSES = 10
BATCH_SIZES = (4, 8, 16, 32)
FORWARD_IMAGES = 64
"""Number of images in a measurement of forward passes."""


class Seconds(NamedTuple):
    """The time of a piece of work on all cores."""

    wall: float
    cpu: float
    """CPU time divided by the number of cores."""


def photograph(rng: np.random.Generator) -> Image.Image:
    """An image of smooth colours with texture, whose JPEG file has about the size of a photograph."""
    size = (WIDTH, HEIGHT)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    texture = Image.fromarray(rng.integers(0, 256, (HEIGHT // 3, WIDTH // 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
    pixels = pixels + 0.2 * (np.asarray(texture.resize(size), dtype=np.float32)[..., None] - 128)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def make_images(root: Path, n_train: int, n_validation: int) -> None:
    """A data set of class folders, with as many test images as classes."""
    rng = np.random.default_rng(0)
    for split, n in (("train", n_train), ("val", n_validation), ("test", CLASSES)):
        for i in range(n):
            folder = root / split / f"class{i % CLASSES}"
            folder.mkdir(parents=True, exist_ok=True)
            photograph(rng).save(folder / f"{i}.jpg", quality=90)


def timed(work: Callable[[], object]) -> Seconds:
    """The time of `work`."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - wall, (time.process_time() - cpu) / usable_cores())


def fastest(times: Sequence[Seconds]) -> Seconds:
    """The minimum of the wall-clock time and the minimum of the CPU time."""
    return Seconds(*map(min, zip(*times, strict=True)))


def make_supernet(name: str, logits_scale: float) -> Supernet:
    """A supernet with random weights, and logits of this scale times the default."""
    supernet = Supernet(
        search_spaces.get(name).with_data(outputs=CLASSES, channels=3), zero_init_residual=False
    )
    with torch.no_grad():
        supernet.classifier.get_parameter("weight").mul_(logits_scale)
    return supernet.eval()


def archs_of(supernet: Supernet, n: int) -> list[Arch]:
    """The smallest, the largest and random subnets."""
    space = supernet.space
    random = space.decode(space.sample(np.random.default_rng(0), n))
    return list(dict.fromkeys([space.smallest, space.largest, *random]))[:n]


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate the subnets once, in this process; works with this checkout and with older ones."""
    keep_freed_memory()
    supernet, dataset, task = (
        make_supernet(options.space, options.logits_scale),
        get_dataset("imagefolder", options.images),
        tasks.get("classification"),
    )
    archs = archs_of(supernet, options.subnets)
    with tempfile.TemporaryDirectory() as folder:
        evaluator = Evaluator(
            supernet,
            dataset,
            task,
            Archive(Path(folder) / "archive.sqlite"),
            {name: task.metrics[name] for name in task.shown},
            calibration=Calibration(options.calibration_images),
        )
        rows: list[dict[str, float]] = []
        seconds = timed(lambda: rows.extend(evaluator(archs, "benchmark")))
    return {
        "wall": seconds.wall,
        "cpu": seconds.cpu,
        "cross_entropy": [row["cross_entropy"] for row in rows],
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def evaluate_in(checkout: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The result of `evaluate` with the code of a checkout, in a separate process."""
    command = [sys.executable, __file__, "--child", "--images", options.images]
    for name in ("space", "subnets", "calibration_images", "logits_scale"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, encoding="utf-8")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def decoding(dataset: Dataset, sizes: Sequence[int], n_calibration: int) -> Seconds:
    """The time to decode all images once and to resize each to all sizes."""
    train, validation = dataset.split("train"), dataset.split("validation")
    images = [(train, i) for i in range(n_calibration)] + [(validation, i) for i in range(len(validation))]

    def read(item: tuple[Any, int]) -> None:
        split, i = item
        image = split.images[i]
        for size in sizes:
            dataset.preprocess.pixels(image, size)

    with ThreadPoolExecutor(usable_cores()) as pool:
        return timed(lambda: list(pool.map(read, images)))


def forward_only(net: Callable[[torch.Tensor], torch.Tensor], size: int) -> Seconds:
    """The time per image on all cores at the best batch size."""
    return fastest([forward_in_batches(net, size, batch) for batch in BATCH_SIZES])


def forward_in_batches(net: Callable[[torch.Tensor], torch.Tensor], size: int, batch: int) -> Seconds:
    """The time per image on all cores at one batch size."""
    x = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    n = max(usable_cores(), FORWARD_IMAGES // batch)

    def run(_: int) -> None:
        with torch.no_grad():
            net(x)

    with ThreadPoolExecutor(usable_cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(run, range(usable_cores())))
        seconds = timed(lambda: list(pool.map(run, range(n))))
    return Seconds(seconds.wall / n / batch, seconds.cpu / n / batch)


def least(options: argparse.Namespace) -> dict[str, Seconds]:
    """The lower bound of the time, with the plain and with the folded network."""
    from nas.torch_backend.folded import FoldedNet

    torch.set_num_threads(1)
    keep_freed_memory()
    supernet, dataset = (
        make_supernet(options.space, options.logits_scale),
        get_dataset("imagefolder", options.images),
    )
    archs = archs_of(supernet, options.subnets)
    sizes = {arch: supernet.space.image_size(arch) for arch in archs}
    n_calibration = min(options.calibration_images, len(dataset.split("train")))
    n_images = n_calibration + len(dataset.split("validation"))
    decode = decoding(dataset, sorted(set(sizes.values())), n_calibration)
    result = {"decoding": decode}
    for kind in ("plain", "folded"):
        total = decode
        for arch, size in sizes.items():
            plain = supernet.extract(arch, fast=True)
            seconds = forward_only(plain if kind == "plain" else FoldedNet(plain), size)
            total = Seconds(total.wall + n_images * seconds.wall, total.cpu + n_images * seconds.cpu)
        result[kind] = total
    return result


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="ofa-mbv3-w1.0")
    parser.add_argument("--subnets", type=int, default=20)
    parser.add_argument("--validation-images", type=int, default=1000)
    parser.add_argument("--calibration-images", type=int, default=512)
    parser.add_argument(
        "--logits-scale", type=float, default=1.0, help="factor of the classifier's random weights"
    )
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument(
        "--against", type=Path, metavar="CHECKOUT", help="another checkout of this repository"
    )
    parser.add_argument("--images", help="folder of images of an earlier call; by default, images are made")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """All measurements."""
    here = Path(__file__).resolve().parents[1]
    checkouts = [here] + ([options.against.resolve()] if options.against else [])
    runs: dict[Path, list[dict[str, Any]]] = {checkout: [] for checkout in checkouts}
    leasts = []
    for _ in range(options.repeats):
        for checkout in checkouts:
            runs[checkout].append(evaluate_in(checkout, options))
        leasts.append(least(options))
    best = {
        checkout: fastest([Seconds(run["wall"], run["cpu"]) for run in runs[checkout]]) for checkout in runs
    }
    floor = {kind: fastest([times[kind] for times in leasts]) for kind in leasts[0]}
    own = best[here]
    result: dict[str, Any] = {
        "cores": usable_cores(),
        "evaluation": own._asdict(),
        **{f"least_{kind}": floor[kind]._asdict() for kind in floor},
        **{
            f"ratio_to_{kind}": {"wall": own.wall / floor[kind].wall, "cpu": own.cpu / floor[kind].cpu}
            for kind in ("plain", "folded")
        },
        "peak_gb": max(run["peak_gb"] for run in runs[here]),
    }
    if options.against:
        other = best[checkouts[1]]
        difference = np.subtract(runs[here][0]["cross_entropy"], runs[checkouts[1]][0]["cross_entropy"])
        result |= {
            "other": other._asdict(),
            "speedup": {"wall": other.wall / own.wall, "cpu": other.cpu / own.cpu},
            "other_peak_gb": max(run["peak_gb"] for run in runs[checkouts[1]]),
            "largest_difference_of_cross_entropy": float(np.abs(difference).max()),
        }
    return result


def main() -> None:
    """Run the benchmark."""
    options = parse()
    if options.child:
        print(json.dumps(evaluate(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if not options.images:
            options.images = folder
            make_images(Path(folder), max(CLASSES, options.calibration_images), options.validation_images)
        result = compare(options)
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        numbers = value.items() if isinstance(value, dict) else [("", value)]
        print(f"{name:40}" + "  ".join(f"{label} {number:.4g}".strip() for label, number in numbers))


if __name__ == "__main__":
    main()
