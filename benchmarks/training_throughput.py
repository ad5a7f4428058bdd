"""Images per second and peak memory of a sandwich step, compared with other implementations.

    python -m benchmarks.training_throughput --against static --space attentivenas --resolution 128
    python -m benchmarks.training_throughput --against ofa --space ofa-mbv3-w1.0 --resolution 32

`static`: the four subnets as static networks in NCHW layout, as in published code. `ofa`: the package of
Once-for-All, which must be installed. Both sides train the same subnets on the same images with the same
losses and threads. Steps are interleaved, so that other load affects both sides equally. Times are minima
over the rounds, of CPU time with one thread. Memory is the growth of a new process over its first steps.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

import search_spaces
from nas.notation.ofa import arch_from_ofa
from nas.tasks.classification.losses import kl_loss, label_loss
from nas.torch_backend.allocator import keep_freed_memory
from nas.torch_backend.functional import run_block
from nas.torch_backend.static import StaticNet
from nas.torch_backend.supernet import Supernet
from search_spaces import Arch, Space

OFA_LARGEST = {"ks": [7] * 20, "e": [6] * 20, "d": [4] * 5}
OFA_SMALLEST = {"ks": [3] * 20, "e": [3] * 20, "d": [2] * 5}
MEMORY_STEPS = 3

Forward = Callable[[Tensor], Tensor]
Side = Callable[[argparse.Namespace], list[Forward]]
"""Creates the forward passes of the four subnets: the largest, the smallest and two random ones."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--against", choices=sorted(SIDES), default="static")
    parser.add_argument("--space", default="attentivenas")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    processes = multiprocessing.get_context("spawn")
    with processes.Pool(1, maxtasksperchild=1) as pool:  # a new process for each
        peaks = pool.starmap(
            peak_memory, [(side, options) for side in ("ours", options.against)], chunksize=1
        )
        seconds = pool.apply(fastest, (["ours", options.against], options))
    result = {
        "images_per_s": round(options.batch / seconds[0], 2),
        f"images_per_s_{options.against}": round(options.batch / seconds[1], 2),
        "speedup": round(seconds[1] / seconds[0], 3),
        "memory_mib": round(peaks[0]),
        f"memory_mib_{options.against}": round(peaks[1]),
    }
    print(json.dumps(result) if options.json else result)


def fastest(sides: list[str], options: argparse.Namespace) -> list[float]:
    """Seconds of the fastest step of each side."""
    clock = time.process_time if options.threads == 1 else time.perf_counter
    steps = [sandwich_step(side, options) for side in sides]
    rng = np.random.default_rng(options.seed)
    seconds = np.full(len(steps), np.inf)
    for _ in range(options.rounds):
        for i in rng.permutation(len(steps)):
            begin = clock()
            steps[i]()
            seconds[i] = min(seconds[i], clock() - begin)
    return [float(value) for value in seconds]


def peak_memory(side: str, options: argparse.Namespace) -> float:
    """Growth of the peak memory of this process over the first steps, in MiB."""
    step = sandwich_step(side, options)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(MEMORY_STEPS):
        step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def sandwich_step(side: str, options: argparse.Namespace) -> Callable[[], None]:
    """A step of the four subnets: the first is trained on labels and the others on its outputs."""
    torch.set_num_threads(options.threads)
    space = space_of(options)
    generator = torch.Generator().manual_seed(options.seed)
    shape = (options.batch, space.config.channels, options.resolution, options.resolution)
    images = torch.randn(shape, generator=generator)
    labels = torch.randint(space.config.outputs, (options.batch,), generator=generator)
    first, *others = ({"ours": _ours, **SIDES}[side])(options)

    def step() -> None:
        logits = first(images)
        label_loss(logits, labels, 0.1).backward()
        for forward in others:
            kl_loss(forward(images), logits.softmax(1)).backward()

    return step


def space_of(options: argparse.Namespace) -> Space:
    """The space with one resolution."""
    config = search_spaces.get(options.space).config
    return search_spaces.parse(
        json.dumps(config.model_dump(mode="json") | {"resolutions": [options.resolution]})
    )


def sandwich(options: argparse.Namespace) -> list[Arch]:
    """The four subnets."""
    space = space_of(options)
    random = space.decode(space.sample(np.random.default_rng(options.seed), 2))
    return [space.largest, space.smallest, *random]


def _ours(options: argparse.Namespace) -> list[Forward]:
    keep_freed_memory()  # as `nas train` does
    supernet = Supernet(space_of(options)).train()
    return [lambda x, arch=arch: supernet(x, arch) for arch in _archs(options)]  # type: ignore[misc]


def _archs(options: argparse.Namespace) -> list[Arch]:
    if options.against != "ofa":
        return sandwich(options)
    space = space_of(options)
    return [arch_from_ofa(space, config | {"r": [options.resolution]}) for config in _ofa_configs(options)]


class _NCHWNet(StaticNet):
    """A static network that does not convert feature maps to the channels-last layout."""

    def forward(self, x: Tensor) -> Tensor:
        tensors = [x]
        for block in self.blocks:
            tensors = run_block(block, tensors, self._compute)
        return tensors[0]


def _static(options: argparse.Namespace) -> list[Forward]:
    space = space_of(options)
    nets: list[nn.Module] = [_NCHWNet(space.blocks(arch)) for arch in sandwich(options)]
    return [net.train() for net in nets]


def _ofa(options: argparse.Namespace) -> list[Forward]:
    from ofa.imagenet_classification.elastic_nn.networks import (  # type: ignore[import-not-found]  # on request
        OFAMobileNetV3,
    )

    torch.manual_seed(options.seed)
    net = OFAMobileNetV3(
        dropout_rate=0, ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4]
    ).train()

    def forward(config: Mapping[str, list[int]], x: Tensor) -> Tensor:
        net.set_active_subnet(**config)
        logits: Tensor = net(x)
        return logits

    return [lambda x, config=config: forward(config, x) for config in _ofa_configs(options)]  # type: ignore[misc]


def _ofa_configs(options: argparse.Namespace) -> list[dict[str, list[int]]]:
    rng = np.random.default_rng(options.seed)
    random = [
        {
            "ks": rng.choice([3, 5, 7], 20).tolist(),
            "e": rng.choice([3, 4, 6], 20).tolist(),
            "d": rng.choice([2, 3, 4], 5).tolist(),
        }
        for _ in range(2)
    ]
    return [OFA_LARGEST, OFA_SMALLEST, *random]


SIDES: Mapping[str, Side] = {"static": _static, "ofa": _ofa}

if __name__ == "__main__":
    main()
