"""Time of the ONNX export of one subnet at 224 px with this toolkit and with torch's exporter.

    python -m benchmarks.onnx_export [SPACE …]

Both times cover the way from the weights of the supernet to a file on disk: the extraction of the subnet and
the export. The toolkit folds batch norms; with torch's exporter (dynamo), this is left to the exporter. The
BN recalibration and the check of the file that `nas export` adds are not included. "same subnet" excludes the
extraction. The seconds are CPU time of this process, which does not depend on other processes. They are the
minimum of five runs of the toolkit and of two runs of torch, so that the imports in the first call of torch
are excluded.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

import search_spaces
from hw_profiles.atomic_write import replace_file
from nas.onnx_backend import onnx_graph
from nas.torch_backend.allocator import keep_freed_memory
from nas.torch_backend.static import StaticNet
from nas.torch_backend.supernet import Supernet
from search_spaces import Arch, Block, Space

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
    return arch | {"resolution": RESOLUTION}


def write_file(blocks: Sequence[Block], net: StaticNet, path: Path) -> None:
    """Write the file as `nas export` does."""
    replace_file(path, onnx_graph.serialize(blocks, net.weights()))


def write_file_by_torch(net: StaticNet, x: torch.Tensor, path: Path) -> None:
    """Write the file with torch's exporter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (x,), path, dynamo=True, external_data=False, verbose=False)


def compare(space: Space, folder: Path) -> dict[str, float]:
    """Seconds of both exporters for one subnet, and the size of the file in MB."""
    arch, supernet = subnet(space), Supernet(space).eval()
    net, blocks, size = supernet.extract(arch), space.blocks(arch), space.image_size(arch)
    x = torch.zeros(1, space.config.channels, size, size)
    ours, theirs = folder / "here.onnx", folder / "torch.onnx"
    seconds_here = {
        "extract": seconds(lambda: supernet.extract(arch), 5),
        "here": seconds(lambda: write_file(blocks, supernet.extract(arch), ours), 5),
        "here, same subnet": seconds(lambda: write_file(blocks, net, ours), 5),
    }
    by_torch = seconds(lambda: write_file_by_torch(net, x, theirs), 2)
    return seconds_here | {"torch, same subnet": by_torch, "MB": ours.stat().st_size / 1e6}


def main() -> None:
    """Print a line per space."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("space", nargs="*", default=SPACES)
    torch.set_num_threads(1)
    keep_freed_memory()  # as every command on a run does
    print(f"{'space':20} {'MB':>4} {'here, s':>8} {'torch, s':>9} {'ratio':>6} {'ratio, same subnet':>19}")
    for name in parser.parse_args().space:
        with TemporaryDirectory() as folder:
            s = compare(search_spaces.get(name), Path(folder))
        whole, same = s["extract"] + s["torch, same subnet"], s["torch, same subnet"] / s["here, same subnet"]
        print(f"{name:20} {s['MB']:4.0f} {s['here']:8.3f} {whole:9.2f} {whole / s['here']:6.0f} {same:19.0f}")


if __name__ == "__main__":
    main()
