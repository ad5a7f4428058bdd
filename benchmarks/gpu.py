"""Training, evaluation and latency measurements on one GPU; no part starts after 8 minutes.

    python -m benchmarks.gpu
    python -m benchmarks.gpu --json > gpu.jsonl
    python -m benchmarks.gpu --device cpu --quick

Each part prints its result as soon as it ends. If a part fails, its result is the error, the other parts
continue, and the exit code is 1. `--quick` uses small settings, which test the code but not the speed.

training    images/s of a sandwich step in bfloat16 on images that are already on the device, and the time of
            the step over the sum of the steps of its four subnets as static networks
loader      images/s of the loader alone, from JPEG files, and its share: images/s of the training divided by
            images/s of the loader. Above 1, the loader limits the training.
evaluation  a group of subnets, recalibrated and evaluated from JPEG files: images/s over all subnets, and
            these over the images/s of the forward passes alone
profile     a latency profile by ONNX Runtime, with inputs and outputs on the device: error of the predictions
            on subnets that the profile was not fitted to (MAPE), and of a second measurement (noise floor)
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch

import search_spaces
from benchmarks import image_loader, sandwich_step
from benchmarks.training_cost import supernet_step
from hw_profiles.measuring.runner.process_limits import usable_cores
from hw_profiles.measuring.runner.providers import CPU, NVIDIA
from hw_profiles.run_settings import RunSettings
from hw_profiles.store import ProfileStore
from nas import tasks
from nas.data.augment import RandomResizedCrop
from nas.data.dataset import ImageDataset, ImageOnly, Split
from nas.data.image_folder import IMAGENET_MEAN, IMAGENET_STD, ImageFiles
from nas.data.preprocess import Preprocess
from nas.devices.profiling import profile_device
from nas.evaluation.archive import Archive
from nas.evaluation.calibration import Calibration
from nas.evaluation.evaluate import Evaluator
from nas.recipes.groups import ComputeConfig, DataConfig
from nas.recipes.recipe import Recipe
from nas.torch_backend.precision import DTYPES, Computation
from nas.torch_backend.supernet import Supernet
from nas.training.loaders import TrainingBatch
from nas.training.step import TrainingStep
from search_spaces import Space

CLASSES = 10
Result = dict[str, object]


@dataclass(frozen=True)
class Sizes:
    """Sizes of the measurements."""

    space: str = "attentivenas"
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    resolution: int = 224
    batch: int = 128
    """Images of a training step."""
    steps: int = 20
    rounds: int = 5
    """Number of repetitions, of which the fastest is reported."""
    files: int = 512
    subnets: int = 50
    forward_batch: int = 128
    calibration_images: int = 512
    profiled_space: str = "cifar"
    held_out: int = 24


QUICK = Sizes(
    space="digits",
    precision="32-true",
    resolution=24,
    batch=4,
    steps=1,
    rounds=1,
    files=8,
    subnets=2,
    forward_batch=4,
    calibration_images=4,
    profiled_space="digits",
    held_out=8,
)


@dataclass
class Benchmark:
    """The parts of the benchmark, which share files and results."""

    device: torch.device
    sizes: Sizes
    folder: Path
    training_images_per_s: float | None = field(default=None, init=False)

    @cached_property
    def files(self) -> list[str]:
        """JPEG files."""
        return image_loader.make_jpegs(self.folder, self.sizes.files)

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def training(self) -> Result:
        """See the description of the module."""
        sizes = self.sizes
        space = search_spaces.get(sizes.space).with_data(
            outputs=CLASSES, channels=3, resolutions=(sizes.resolution,)
        )
        step = self._training_step(space)
        shape = (sizes.batch, 3, sizes.resolution, sizes.resolution)
        x = torch.randn(shape, device=self.device)
        y = torch.arange(sizes.batch, device=self.device) % CLASSES
        batch = TrainingBatch(x, y, None, sizes.batch)
        step(batch, 0.01)
        self.synchronize()
        begin = time.perf_counter()
        for _ in range(sizes.steps):
            step(batch, 0.01)
        self.synchronize()
        images_per_s = sizes.steps * sizes.batch / (time.perf_counter() - begin)
        self.training_images_per_s = images_per_s
        over_static = sandwich_step.measure(
            space, sizes.batch, sizes.rounds, 0, device=self.device, dtype=DTYPES[sizes.precision]
        )
        memory = torch.cuda.max_memory_allocated(self.device) / 2**30 if self.device.type == "cuda" else None
        return {
            "space": sizes.space,
            "resolution": sizes.resolution,
            "batch": sizes.batch,
            "images_per_s": round(images_per_s, 1),
            "sandwich_over_static": round(over_static, 3),
            "memory_gib": None if memory is None else round(memory, 1),
            "limit": "elastic slicing" if over_static > 1.1 else "the four subnets themselves",
        }

    def _training_step(self, space: Space) -> TrainingStep:
        recipe = Recipe(
            space=self.sizes.space,
            epochs=1,
            data=DataConfig(dataset="imagefolder", batch_size=self.sizes.batch),
            compute=ComputeConfig(accelerator=self.device.type, precision=self.sizes.precision),
        )
        return supernet_step(recipe, space, self.sizes.steps + 1)

    def loader(self) -> Result:
        """See the description of the module."""
        sizes, processes = self.sizes, usable_cores()
        seconds, _ = image_loader.measure(
            self.files, processes, sizes.resolution, min(64, sizes.files // 2), sizes.rounds
        )
        loader = 1 / float(seconds[1])
        share = None if self.training_images_per_s is None else self.training_images_per_s / loader
        return {
            "processes": processes,
            "images_per_s": round(loader, 1),
            "over_bare_decoding": round(float(seconds[0] / seconds[1]), 3),
            "share": None if share is None else round(share, 3),
            "limit": None if share is None else "the loader" if share > 1 else "the training step",
        }

    def evaluation(self) -> Result:
        """See the description of the module."""
        sizes = self.sizes
        source = search_spaces.get(sizes.space)
        space = source.with_data(outputs=CLASSES, channels=3, resolutions=tuple(source.resolutions))
        archs = space.decode(space.sample(np.random.default_rng(0), sizes.subnets))
        supernet = Supernet(space).eval()
        split = Split(ImageFiles(self.files), np.arange(sizes.files) % CLASSES)
        preprocess = Preprocess(IMAGENET_MEAN, IMAGENET_STD, crop_fraction=0.875)
        dataset = ImageDataset(
            tuple(map(str, range(CLASSES))),
            preprocess,
            ImageOnly(RandomResizedCrop()),
            {"train": split, "validation": split},
        )
        task = tasks.get("classification")
        evaluator = Evaluator(
            supernet,
            dataset,
            task,
            Archive(self.folder / "archive.sqlite"),
            task.metrics,
            calibration=Calibration(sizes.calibration_images),
            accelerator=self.device.type,
            precision=self.sizes.precision,
        )
        begin = time.perf_counter()
        evaluator(archs, "benchmark")
        seconds = time.perf_counter() - begin
        images = len(archs) * (sizes.files + min(sizes.files, sizes.calibration_images))
        forward = sum(self._forward_seconds(supernet, space, arch) for arch in archs)
        forward_images_per_s = len(archs) / forward
        ratio = images / seconds / forward_images_per_s
        return {
            "subnets": len(archs),
            "images_per_s": round(images / seconds, 1),
            "forward_images_per_s": round(forward_images_per_s, 1),
            "over_forward": round(ratio, 3),
            "limit": "the forward passes" if ratio > 0.8 else "decoding, recalibration and transfers",
        }

    @torch.no_grad()
    def _forward_seconds(self, supernet: Supernet, space: Space, arch: search_spaces.Arch) -> float:
        """Time of the forward pass for one image, in batches on the device."""
        net = supernet.extract(arch, fast=True).eval().to(self.device)
        size, n = space.image_size(arch), self.sizes.forward_batch
        x = torch.randn(n, 3, size, size, device=self.device)
        fastest = float("inf")
        for _ in range(1 + self.sizes.rounds):  # the first one selects the kernels
            self.synchronize()
            begin = time.perf_counter()
            with Computation(self.device, DTYPES[self.sizes.precision]).autocast():
                net(x)
            self.synchronize()
            fastest = min(fastest, time.perf_counter() - begin)
        return fastest / n

    def profile(self) -> Result:
        """See the description of the module."""
        provider = NVIDIA[0] if self.device.type == "cuda" else CPU
        device = profile_device(
            search_spaces.get(self.sizes.profiled_space),
            "benchmark",
            ProfileStore(self.folder / "profiles"),
            settings=RunSettings(provider=provider),
            n_held_out=self.sizes.held_out,
        )
        profile = device.profile
        mape, noise = profile.held_out.mape, profile.noise_floor
        noisy = noise is not None and mape < 1.5 * noise
        return {
            "space": self.sizes.profiled_space,
            "provider": provider,
            "seconds": round(profile.seconds, 1),
            "latency_model": profile.latency_model,
            "held_out": profile.held_out.n,
            "mape": round(mape, 4),
            "noise_floor": None if noise is None else round(noise, 4),
            "kendall_tau": round(profile.held_out.kendall_tau, 3),
            "limit": "the noise of the measurement" if noisy else "the latency model",
        }

    @property
    def parts(self) -> Mapping[str, Callable[[], Result]]:
        """The parts in order."""
        return {
            "training": self.training,
            "loader": self.loader,
            "evaluation": self.evaluation,
            "profile": self.profile,
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="small settings")
    parser.add_argument("--batch", type=int, help="images of a training step")
    parser.add_argument("--parts", nargs="+", help="names of the parts; default: all")
    parser.add_argument("--minutes", type=float, default=8, help="no part starts later")
    parser.add_argument("--json", action="store_true", help="one JSON document per part and line")
    options = parser.parse_args()
    sizes = QUICK if options.quick else Sizes()
    if options.quick:
        torch.set_num_threads(1)  # several threads would wait for each other on a busy machine
    if options.batch:
        sizes = Sizes(**{**vars(sizes), "batch": options.batch})
    with tempfile.TemporaryDirectory() as folder:
        benchmark = Benchmark(torch.device(options.device), sizes, Path(folder))
        unknown = sorted(set(options.parts or []) - set(benchmark.parts))
        if unknown:
            parser.error(f"--parts must be of {', '.join(benchmark.parts)}, got {', '.join(unknown)}")
        if options.device == "cuda" and not torch.cuda.is_available():
            parser.error("torch finds no CUDA device; use --device cpu --quick to test the code")
        sys.exit(run(benchmark, options.parts or list(benchmark.parts), options.minutes, options.json))


def run(benchmark: Benchmark, names: list[str], minutes: float, as_json: bool) -> int:
    """Run the parts and print their results; returns the exit code."""
    start, failed = time.monotonic(), False
    hardware = "cpu" if benchmark.device.type == "cpu" else torch.cuda.get_device_name(benchmark.device)
    for name in names:
        begin = time.monotonic()
        result: Result = {}
        if begin - start > 60 * minutes:
            result["error"] = f"not started, because {minutes:g} minutes had passed"
        else:
            try:
                result = benchmark.parts[name]()
            except Exception as error:  # the other parts continue
                result["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"
        failed |= "error" in result
        result = {"part": name, "hardware": hardware, "wall_s": round(time.monotonic() - begin, 1), **result}
        print(json.dumps(result) if as_json else result, flush=True)
    return int(failed)


if __name__ == "__main__":
    main()
