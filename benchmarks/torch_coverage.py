"""Conversion of networks of torchvision or timm: elastic parts, and equality of outputs.

    python -m benchmarks.torch_coverage [NAME ...] [--timm] [--out FILE]

Without names, these are all classification networks of torchvision, or all `test_*` networks of timm and
small ones of its other families.

Each network gets random weights and statistics. The largest subnet of its supernet must compute the same
logits.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import list_models

from nas.importing.torch_model.convert import convert
from nas.importing.torch_model.load import load_model

SIDES = {"inception_v3": 299, "swin_v2_t": 256, "swin_v2_s": 256, "swin_v2_b": 256}
"""Side of the images for networks of torchvision in pixels, if it is not 224."""
TIMM = (
    *("convnext_atto", "convnextv2_atto", "cspresnet50", "darknet53", "deit3_small_patch16_224"),
    *("deit_tiny_patch16_224", "edgenext_xx_small", "efficientnet_lite0", "fbnetc_100", "ghostnet_050"),
    *("hardcorenas_a", "lcnet_050", "levit_128s", "mixnet_s", "mnasnet_small", "mobilenetv3_small_050"),
    *("mobilevit_xxs", "poolformer_s12", "regnetx_002", "regnety_002", "repvgg_a0", "resnet18", "resnet26"),
    *("resnetv2_50", "rexnet_100", "semnasnet_075", "spnasnet_100", "tf_efficientnet_lite0", "tinynet_e"),
    *("vit_tiny_patch16_224",),
)
"""Networks of timm, in addition to `test_*`."""
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


def measure(source: str, name: str) -> dict[str, Any]:
    """Convert one network of `torchvision` or `timm`, and compare the logits."""
    model: Any = load_model(f"{source}:{name}").eval()
    randomize(model)
    side = model.pretrained_cfg["input_size"][1] if source == "timm" else SIDES.get(name, 224)
    start = time.perf_counter()
    try:
        converted = convert(model, [side], name=name)
    except ValueError as error:
        return {"network": name, "refused": str(error)}
    seconds = time.perf_counter() - start
    space = converted.space
    with torch.no_grad():
        images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        expected: Tensor = model(images)
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


def of_timm() -> list[str]:
    """The networks of timm in the table."""
    timm = importlib.import_module("timm")
    return [*timm.list_models("test_*"), *TIMM]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="networks; by default all")
    parser.add_argument("--timm", action="store_true", help="networks of timm, which must be installed")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    names = options.names or (of_timm() if options.timm else list_models(module=torchvision.models))
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    print(*lines, sep="\n", flush=True)
    for name in names:
        row = measure("timm" if options.timm else "torchvision", name)
        lines.append("| " + " | ".join(str(row.get(column, "")) for column in COLUMNS) + " |")
        print(lines[-1], flush=True)
        gc.collect()
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
