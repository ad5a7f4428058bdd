"""ONNX export of one subnet at 224 px: the graph written here beside torch's exporter.

    python -m benchmarks.onnx_export [SPACE …]

Both get the same extracted subnet in eval mode and make the bytes of a model; ours is the best of five, the
exporter (dynamo) the better of two, so that its first-call imports do not count. Seconds are CPU time of this
process, which other processes do not stretch.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

import search_spaces
from nas import onnx_graph
from nas.static import StaticNet
from nas.supernet import Supernet
from search_spaces import Arch, Space

SPACES = ("ofa-mbv3-w1.0", "ofa-mbv3-w1.2", "ofa-proxyless-w1.3", "ofa-resnet50", "attentivenas", "bignas")
RESOLUTION = 224


def seconds(run: Callable[[], object], repeats: int) -> float:
    """The shortest CPU time of several runs."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def subnet(space: Space, seed: int = 0) -> Arch:
    """A random subnet at 224 px."""
    arch = space.decode(space.sample(np.random.default_rng(seed), 1))[0]
    return replace(arch, resolution=RESOLUTION)


def export_by_torch(net: StaticNet, x: torch.Tensor) -> bytes:
    """The model as a user without this toolkit would make it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(net, (x,), dynamo=True, verbose=False)
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


def compare(space: Space) -> tuple[float, float]:
    """Seconds of our export and of torch's for one subnet."""
    arch = subnet(space)
    net = Supernet(space).extract(arch).eval()
    size = space.image_size(arch)
    layers, x = space.layers(arch), torch.zeros(1, space.config.channels, size, size)
    ours = seconds(lambda: onnx_graph.build(layers, net.weights()).SerializeToString(), 5)
    return ours, seconds(lambda: export_by_torch(net, x), 2)


def main() -> None:
    """Print a line per space."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("space", nargs="*", default=SPACES)
    torch.set_num_threads(1)
    print(f"{'space':20} {'here, s':>8} {'torch, s':>9} {'ratio':>6}")
    for name in parser.parse_args().space:
        ours, theirs = compare(search_spaces.get(name))
        print(f"{name:20} {ours:8.3f} {theirs:9.2f} {theirs / ours:6.0f}")


if __name__ == "__main__":
    main()
