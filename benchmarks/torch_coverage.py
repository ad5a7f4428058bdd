"""Conversion of all classification networks of torchvision: elastic parts, and equality of outputs.

    python -m benchmarks.torch_coverage [NAME ...] [--out FILE]

Each network gets random weights and statistics. The largest subnet of its supernet must compute the same
logits.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from nas.importing.torch_model.convert import convert
from nas.importing.torch_model.load import load_model

SIDES = {"inception_v3": 299}
"""Side of the images in pixels, if it is not 224."""
COLUMNS = (
    *("network", "genes", "subnets", "smallest_mmacs", "largest_mmacs", "seconds", "difference"),
    *("space_file_kb", "refused"),
)


def randomize(model: nn.Module) -> None:
    """Draw all parameters and statistics, so that none has a special value such as 0 or 1."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if not tensor.is_floating_point():
                continue
            if tensor.ndim > 1:
                tensor.normal_(0, (1 / tensor[0].numel()) ** 0.5, generator=generator)
            else:
                tensor.uniform_(0.5, 1.5, generator=generator)


def measure(name: str) -> dict[str, Any]:
    """Convert one network, and compare the logits."""
    model = load_model(f"torchvision:{name}").eval()
    randomize(model)
    side = SIDES.get(name, 224)
    start = time.perf_counter()
    try:
        converted = convert(model, [side], name=name)
    except ValueError as error:
        return {"network": name, "refused": str(error)}
    seconds = time.perf_counter() - start
    space = converted.space
    with torch.no_grad():
        images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        expected = model(images)
        difference = (converted.supernet(images, space.largest) - expected).abs().max() / expected.abs().max()
    return {
        "network": name,
        "genes": len(space.genes),
        "subnets": f"{space.n_subnets:.1e}",
        "smallest_mmacs": round(space.macs(space.smallest) / 1e6),
        "largest_mmacs": round(space.macs(space.largest) / 1e6),
        "seconds": round(seconds, 1),
        "difference": f"{float(difference):.1g}",
        "space_file_kb": len(space.to_yaml()) // 1000,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="networks; by default all")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    names = options.names or torchvision.models.list_models(module=torchvision.models)
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    print(*lines, sep="\n", flush=True)
    for name in names:
        row = measure(name)
        lines.append("| " + " | ".join(str(row.get(column, "")) for column in COLUMNS) + " |")
        print(lines[-1], flush=True)
        gc.collect()
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
