"""Images per second of the training loader, compared with bare decoding and resizing of the same JPEG files.

    python -m benchmarks.image_loader
    python -m benchmarks.image_loader --processes 16 --resolution 224 --json

The files are made in a temporary folder. `loader` returns batches of training images to the main process.
`bare` decodes the files with Pillow, crops random parts with the same distribution, resizes them, in the same
number of processes, and drops the result. Both sides alternate, so that other load affects both equally;
times are minima over the rounds. On a busy machine, compare the CPU time of all processes (`cpu_ms`, Linux).
`decode_ms` is the CPU time of decoding one file: with Pillow as in the toolkit, with Pillow's draft mode at
half the size, which changes the pixels, and with torchvision.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import RandomResizedCrop

from hw_profiles.measuring.runner.process_limits import usable_cores
from nas.data import image_file
from nas.data.augment import RandomResizedCrop as Augment
from nas.data.batches import plan_epoch, training_loader
from nas.data.dataset import ImageDataset, ImageOnly, Split
from nas.data.image_folder import IMAGENET_MEAN, IMAGENET_STD, ImageFiles
from nas.data.preprocess import Preprocess
from nas.torch_backend.allocator import keep_freed_memory

WIDTH, HEIGHT = 500, 375
QUALITY = 85
DECODED = 30
"""Number of files in the comparison of decoders."""

Box = tuple[int, int, int, int]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--processes", type=int, default=usable_cores())
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    keep_freed_memory()  # as `nas train` does
    with tempfile.TemporaryDirectory() as folder:
        paths = make_jpegs(Path(folder), options.images)
        seconds, cpu_seconds = measure(
            paths, options.processes, options.resolution, options.batch, options.rounds
        )
        decode_ms = decoding(paths[:DECODED], options.rounds)
    bare, loader = 1 / seconds
    bare_cpu, loader_cpu = 1e3 * cpu_seconds
    result = {
        "processes": options.processes,
        "images_per_s": {"bare": round(bare, 1), "loader": round(loader, 1)},
        "loader_over_bare": round(loader / bare, 3),
        "cpu_ms": {"bare": round(bare_cpu, 3), "loader": round(loader_cpu, 3)},
        "loader_over_bare_cpu": round(bare_cpu / loader_cpu, 3),
        "decode_ms": {name: round(ms, 3) for name, ms in decode_ms.items()},
    }
    print(json.dumps(result) if options.json else result)


def make_jpegs(folder: Path, n: int) -> list[str]:
    """Files with coarse shapes and noise, about 57 kB each."""
    rng = np.random.default_rng(0)
    paths = [str(folder / f"{i}.jpg") for i in range(n)]
    for path in paths:
        shapes = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        pixels = np.asarray(shapes.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.float32)
        noisy = (pixels + rng.normal(0, 10, pixels.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(path, quality=QUALITY)
    return paths


def measure(
    paths: Sequence[str], processes: int, resolution: int, batch: int, rounds: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds per image and CPU seconds per image, each for `bare` and for `loader`."""
    sides = [_bare(paths, processes, resolution, batch), _loader(paths, processes, resolution, batch)]
    seconds, cpu_seconds = np.full((2, len(sides)), np.inf)
    for _ in range(rounds):
        for i, (run, _) in enumerate(sides):
            begin, begin_cpu = time.perf_counter(), _cpu_seconds()
            run()
            seconds[i] = min(seconds[i], time.perf_counter() - begin)
            if np.isfinite(begin_cpu):
                cpu_seconds[i] = min(cpu_seconds[i], _cpu_seconds() - begin_cpu)
    for _, close in sides:
        close()
    n = len(paths) // batch * batch
    return seconds / n, cpu_seconds / n


def _cpu_seconds() -> float:
    """CPU time of this process and its child processes so far; infinite where it cannot be read."""
    if sys.platform != "linux":
        return math.inf
    clocks = [(~child.pid << 3) | 2 for child in multiprocessing.active_children() if child.pid]
    return time.process_time() + sum(time.clock_gettime(clock) for clock in clocks)  # as clock_getcpuclockid


Side = tuple[Callable[[], None], Callable[[], None]]
"""A function that processes all images once, and a function that ends the processes."""


def _bare(paths: Sequence[str], processes: int, resolution: int, batch: int) -> Side:
    boxes = [_random_box() for _ in paths]
    work = [
        (paths[i : i + batch], boxes[i : i + batch], resolution)
        for i in range(0, len(paths) // batch * batch, batch)
    ]
    pool = multiprocessing.Pool(processes)

    def run() -> None:
        pool.map(_decode_and_resize, work, chunksize=1)

    return run, pool.terminate


def _random_box() -> Box:
    blank = Image.new("L", (WIDTH, HEIGHT))
    top, left, height, width = RandomResizedCrop.get_params(blank, [Augment().min_area, 1.0], [3 / 4, 4 / 3])
    return left, top, left + width, top + height


def _decode_and_resize(work: tuple[Sequence[str], Sequence[Box], int]) -> None:
    paths, boxes, resolution = work
    for path, box in zip(paths, boxes, strict=True):
        with Image.open(path) as image:
            image.crop(box).resize((resolution, resolution), Image.Resampling.BILINEAR)


def _loader(paths: Sequence[str], processes: int, resolution: int, batch: int) -> Side:
    split = Split(ImageFiles(paths), np.zeros(len(paths), dtype=np.int64))
    preprocess = Preprocess(IMAGENET_MEAN, IMAGENET_STD)
    dataset = ImageDataset(("a", "b"), preprocess, ImageOnly(Augment()), {"train": split})
    loader = training_loader(dataset, processes)
    generator = torch.Generator().manual_seed(0)

    def run() -> None:
        for _ in loader(plan_epoch(dataset, [resolution], batch, generator)):
            pass

    return run, loader.close


def decoding(paths: Sequence[str], rounds: int) -> dict[str, float]:
    """CPU milliseconds per file by decoder."""
    torch.set_num_threads(1)
    seconds = dict.fromkeys(DECODERS, np.inf)
    for _ in range(rounds):
        for name, decode in DECODERS.items():
            begin = time.process_time()
            for path in paths:
                decode(path)
            seconds[name] = min(seconds[name], time.process_time() - begin)
    return {name: 1e3 * value / len(paths) for name, value in seconds.items()}


def _half_size(path: str) -> None:
    with Image.open(path) as image:
        image.draft("RGB", (WIDTH // 2, HEIGHT // 2))
        image.load()


def _torchvision(path: str) -> None:
    content = torch.from_numpy(np.fromfile(path, dtype=np.uint8))
    decode_jpeg(content, mode=ImageReadMode.RGB)


DECODERS: dict[str, Callable[[str], object]] = {
    "pillow": image_file.read,
    "pillow_draft": _half_size,
    "torchvision": _torchvision,
}

if __name__ == "__main__":
    main()
