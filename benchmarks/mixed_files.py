"""Latency of random subnets in the best mixed precision, compared with the better uniform precision.

    python -m benchmarks.mixed_files --space ofa-mbv3-w1.0 --resolution 224 --networks 10 --profiles DIR

This machine is profiled in mixed precision. For each of the random subnets, the precision of every block
(`block`) and the first block in INT8 (`from`) with the smallest latency by the table are chosen. Both mixed
networks and the subnet in fp32 and in INT8 are measured, with random weights, in two interleaved passes.
`gain` is the share of the latency of the better uniform precision that a mixed precision saves; measured
latencies are means of both passes. After an interruption, the same command continues; only the last
measurements are repeated.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_profiles.device import Device
from hw_profiles.latency_models.prediction_error import compare
from hw_profiles.run_settings import RunSettings
from hw_profiles.store import ProfileStore
from nas.devices.profile_check import measure_twice
from nas.devices.profiling import profile_device
from nas.progress import shown
from nas.runs.open_space import open_space
from search_spaces import Arch, Space
from search_spaces.precision_space import FLOAT_BITS, INT8_BITS, PrecisionSpace, with_precision
from search_spaces.tensors import FP32, INT8

MIXTURES = ("from", "block")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--space", default="ofa-mbv3-w1.0", help="a space's name, a YAML file or a run")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--networks", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--held-out", type=int, default=9)
    parser.add_argument("--profiles", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    base = open_space(options.space).with_resolutions([options.resolution])
    store, name = ProfileStore(options.profiles), f"{base.name}-{options.resolution}-{options.threads}t"
    settings = RunSettings(precision="mixed", threads=options.threads)
    with shown() as progress:
        if name in store.names():
            device = store.load(name)
        else:
            device = profile_device(
                base, name, store, settings=settings, n_held_out=options.held_out, progress=progress
            )
        space = with_precision(base, "block")
        drawn = base.decode(base.sample(np.random.default_rng(options.seed), options.networks))
        versions = [versions_of(base, space, device, arch) for arch in drawn]
        archs = list(dict.fromkeys(arch for each in versions for arch in each.values()))
        first, second = measure_twice(space, archs, device, progress)
    predicted = device.latency(space)(space.encode(archs))
    measured_ms = dict(zip(archs, ((first + second) / 2).tolist(), strict=True))
    predicted_ms = dict(zip(archs, predicted.tolist(), strict=True))
    networks: list[dict[str, Any]] = [
        {
            "arch": arch.id,
            "precisions": space.precision_text(each["block"]),
            "measured": gains({kind: measured_ms[one] for kind, one in each.items()}),
            "predicted": gains({kind: predicted_ms[one] for kind, one in each.items()}),
        }
        for arch, each in zip(drawn, versions, strict=True)
    ]
    summary = {
        f"gain_{kind}_{which}": [network[which][f"gain_{kind}"] for network in networks]
        for kind in MIXTURES
        for which in ("measured", "predicted")
    }
    result = {
        "networks": networks,
        **{key: {"median": float(np.median(gain)), "least": min(gain)} for key, gain in summary.items()},
        "noise_floor": compare(second, first).mape,
        "mape": compare(predicted, first).mape,
    }
    print(json.dumps(result, indent=2))


def versions_of(base: Space, space: PrecisionSpace, device: Device, arch: Arch) -> dict[str, Arch]:
    """A subnet in fp32, in INT8, and in the fastest mixed precisions by the table."""
    starts = with_precision(base, "from")
    prefixes = [Arch({**arch, "int8_from": start}) for start in starts.choices["int8_from"].options]
    latency = device.latency(starts)(starts.encode(prefixes))
    return {
        FP32: space.uniform(arch, FP32),
        INT8: space.uniform(arch, INT8),
        "from": starts.by_block(prefixes[int(latency.argmin())]),
        "block": fastest(space, device, arch),
    }


def fastest(space: PrecisionSpace, device: Device, arch: Arch) -> Arch:
    """The fastest precision of each block: the shortest path through the chain of blocks."""
    names = [block.name for block in space.base.blocks(arch)]
    slots = [[slot.name for slot in space.slots].index(name) for name in names]
    costs = _pair_costs(space, device, arch, names)[:, :, slots]
    total, previous = np.array([costs[own, own, 0] for own in (0, 1)]), list[NDArray[np.intp]]()
    for block in range(1, len(names)):
        reached = total[:, None] + costs[:, :, block]
        previous.append(reached.argmin(axis=0))
        total = reached.min(axis=0)
    path = [int(total.argmin())]
    for step in reversed(previous):
        path.append(int(step[path[-1]]))
    return _with_bits(arch, names, path[::-1])


def _pair_costs(space: PrecisionSpace, device: Device, arch: Arch, names: list[str]) -> NDArray[np.float64]:
    """Latency of each slot by the precision of the previous block and of its own block (0: fp32, 1: INT8).

    The shape is (2, 2, n_slots).
    """
    costs = np.zeros((2, 2, len(space.slots)))
    odd = np.arange(len(names)) % 2
    for pattern in (0 * odd, 0 * odd + 1, odd, 1 - odd):
        genomes = space.encode([_with_bits(arch, names, pattern.tolist())])
        parts = device.latency(space).per_slot(genomes)[0]
        for block, name in enumerate(names):
            slot = [one.name for one in space.slots].index(name)
            costs[pattern[max(block - 1, 0)], pattern[block], slot] = parts[slot]
    return costs


def _with_bits(arch: Arch, names: list[str], in_int8: list[int]) -> Arch:
    bits = {
        f"{name}.bits": INT8_BITS if one else FLOAT_BITS for name, one in zip(names, in_int8, strict=True)
    }
    return Arch({**arch, **bits})


def gains(latency_ms: Mapping[str, float]) -> dict[str, Any]:
    """The latencies of a subnet, and the share of latency that mixed precisions save."""
    uniform = min(latency_ms[FP32], latency_ms[INT8])
    return dict(latency_ms) | {f"gain_{kind}": 1 - latency_ms[kind] / uniform for kind in MIXTURES}


if __name__ == "__main__":
    main()
