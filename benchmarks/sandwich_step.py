"""Time of a sandwich step relative to the sum of training steps of its four subnets as static networks.

    python -m benchmarks.sandwich_step --space digits --json

The five steps are repeated in random order, so that other load affects all of them equally. The ratio is that
of the minimum times. Memory layout, batch, threads and losses are equal on both sides.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

import search_spaces
from nas.tasks.classification.losses import kl_loss, label_loss
from nas.torch_backend.precision import CPU
from nas.torch_backend.supernet import Supernet
from search_spaces import Space


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--space", default="digits")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    space = search_spaces.get(options.space)
    ratios = [measure(space, options.batch, options.rounds, seed) for seed in range(3)]
    result = {"sandwich_over_static": round(float(np.mean(ratios)), 4), "seeds": np.round(ratios, 4).tolist()}
    print(json.dumps(result) if options.json else f"sandwich step / four static steps: {result}")


def measure(
    space: Space,
    batch: int,
    rounds: int,
    seed: int,
    *,
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
) -> float:
    """The ratio for the four subnets of one draw of the sandwich rule, with autocast to `dtype`."""
    rng = np.random.default_rng(seed)
    resolution = space.resolutions[-1]
    archs = [space.largest, space.smallest, *space.decode(space.sample(rng, 2))]
    archs = [arch | {"resolution": resolution} for arch in archs]
    supernet = Supernet(space).to(device).train()
    statics = [supernet.extract(arch).train() for arch in archs]
    images = torch.randn(batch, space.config.channels, resolution, resolution, device=device)
    labels = torch.randint(space.config.outputs, (batch,), device=device)

    def outputs(network: nn.Module, *arguments: object) -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits: Tensor = network(images, *arguments)
        return logits.float()

    teacher = outputs(statics[0]).detach().softmax(1)

    def sandwich() -> None:
        supernet.zero_grad()
        logits = outputs(supernet, archs[0])
        label_loss(logits, labels, 0.1).backward()
        for arch in archs[1:]:
            kl_loss(outputs(supernet, arch), logits.softmax(1)).backward()

    def static(net: nn.Module, loss: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        def step() -> None:
            net.zero_grad()
            loss(outputs(net)).backward()

        return step

    steps = [sandwich, static(statics[0], lambda logits: label_loss(logits, labels, 0.1))]
    steps += [static(net, lambda logits: kl_loss(logits, teacher)) for net in statics[1:]]
    fastest = np.full(len(steps), np.inf)
    for _ in range(rounds):
        for i in rng.permutation(len(steps)):
            begin = time.perf_counter()
            steps[i]()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            fastest[i] = min(fastest[i], time.perf_counter() - begin)
    return float(fastest[0] / fastest[1:].sum())


if __name__ == "__main__":
    main()
