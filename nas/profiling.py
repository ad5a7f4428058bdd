"""Measures the latency table of a space on this machine, and how good it is."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hw_profiles.bundle import BundledModel, Results, read_results, write_bundle
from hw_profiles.calibration import fit_affine
from hw_profiles.errors import compare
from hw_profiles.local import run_bundle
from hw_profiles.plan import (
    Edge,
    EdgeTimes,
    TimedBlock,
    calibration_subnets,
    edges_of,
    held_out_subnets,
    inside_network_ms,
    timed_blocks,
)
from hw_profiles.profile import DeviceKey, DeviceProfile, Hardware
from hw_profiles.store import BUNDLE, Device, ProfileStore
from hw_profiles.table import LatencyTable
from nas import onnx_graph
from nas.progress import Progress, silent
from search_spaces import Arch, LayerSpec, Space, block_key

BLOCK_ROUNDS, EDGE_ROUNDS, SENTINEL_ROUNDS = 3, 8, 60
"""Visits of each graph. Held-out MAPE with 1, 2, 3, 4 rounds of the blocks: 1.00, 0.96, 0.92, 0.89 % (mean of
two profiles of the digits space, noise floor 0.56 %); edges are few and count in every block."""
N_CALIBRATION, N_HELD_OUT = 12, 24
SENTINEL = "sentinel"


@dataclass(frozen=True)
class _Work:
    """Everything that is timed for one space; ids of models are prefix and position."""

    blocks: dict[str, TimedBlock]
    edges: list[Edge]
    calibration: list[Arch]
    held_out: list[Arch]

    @classmethod
    def plan(cls, space: Space, rng: np.random.Generator) -> _Work:
        blocks = timed_blocks(space)
        calibration = calibration_subnets(space, rng, N_CALIBRATION)
        held_out = held_out_subnets(space, rng, N_HELD_OUT, calibration)
        return cls(blocks, edges_of(blocks), calibration, held_out)

    def models(self, space: Space, rng: np.random.Generator, batch: int) -> list[BundledModel]:
        def model(
            name: str, layers: tuple[LayerSpec, ...], rounds: int, *, alone: bool = False
        ) -> BundledModel:
            weights = onnx_graph.random_weights(layers, rng)
            graph = onnx_graph.build(layers, weights, batch=batch)
            return BundledModel(name, graph.SerializeToString(deterministic=True), rounds, alone)

        def alone(name: str, arch: Arch, rounds: int) -> BundledModel:
            return model(name, space.layers(arch), rounds, alone=True)

        return [
            model(SENTINEL, space.layers(self.calibration[N_CALIBRATION // 2]), SENTINEL_ROUNDS),
            *(model(f"block{i}", b.layers, BLOCK_ROUNDS) for i, b in enumerate(self.blocks.values())),
            *(model(f"one{i}", edge.probes(1), EDGE_ROUNDS) for i, edge in enumerate(self.edges)),
            *(model(f"three{i}", edge.probes(3), EDGE_ROUNDS) for i, edge in enumerate(self.edges)),
            *(alone(f"calibration{i}", arch, 1) for i, arch in enumerate(self.calibration)),
            *(alone(f"held_out{i}", arch, 2) for i, arch in enumerate(self.held_out)),
        ]

    def edge_times(self, results: Results) -> dict[Edge, EdgeTimes]:
        ms = results.latency_ms
        return {edge: EdgeTimes(ms[f"one{i}"], ms[f"three{i}"]) for i, edge in enumerate(self.edges)}

    def block_frame(self, results: Results) -> pd.DataFrame:
        edges = self.edge_times(results)
        rows = []
        for i, (key, timed) in enumerate(self.blocks.items()):
            visits = results.visits_ms[f"block{i}"]
            low, middle, high = np.quantile(visits, [0.25, 0.5, 0.75])
            rows.append(
                {
                    "block_key": key,
                    "latency_ms": inside_network_ms(timed, results.latency_ms[f"block{i}"], edges),
                    "visits": len(visits),
                    "spread": (high - low) / middle,
                }
            )
        return pd.DataFrame(rows)

    def edge_frame(self, results: Results) -> pd.DataFrame:
        rows = [
            {
                "channels": edge.channels,
                "size": edge.size,
                "probe_ms": times.probe_ms,
                "overhead_ms": times.overhead_ms,
            }
            for edge, times in self.edge_times(results).items()
        ]
        return pd.DataFrame(rows)


def profile_device(
    space: Space,
    name: str,
    store: ProfileStore,
    *,
    threads: int = 1,
    batch: int = 1,
    provider: str = "CPUExecutionProvider",
    seed: int = 0,
    progress: Progress = silent,
    resume: bool = True,
) -> Device:
    """Measure this machine under a name and save the result in `store`.

    Stopped at any moment, it goes on where it was when called again with the same arguments; a profile that
    the name already has stays as it is until the new one is whole.

    Args:
        space: its blocks are measured.
        name: of the device.
        store: where the profile goes.
        threads: threads of one operator.
        batch: images at a time.
        provider: ONNX Runtime's execution provider.
        seed: decides random weights, subnets and the order of visits.
        progress: told about the visits.
        resume: False: forget what an earlier call, stopped half-way, has measured.

    Raises:
        ValueError: the name belongs to a device measured for another space, the space is too small, the
            folder cannot be written, the provider is not available, or the runner failed.
    """
    _check(space, name, store)
    folder = store.folder(name) / BUNDLE
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(seed)
    work = _Work.plan(space, rng)
    try:
        models = work.models(space, rng, batch)
        write_bundle(folder, models, sentinel=SENTINEL, threads=threads, provider=provider, seed=seed)
    except OSError as error:
        raise ValueError(f"cannot write profiles to {store.directory}: {error.strerror}") from None
    run_bundle(folder, lambda done, total: progress(f"profiling {name}", done, total))
    device = _evaluate(space, name, work, read_results(folder), batch)
    store.save(device)
    shutil.rmtree(folder)
    return device


def _check(space: Space, name: str, store: ProfileStore) -> None:
    needed = 2 * (N_CALIBRATION + N_HELD_OUT)
    if space.n_subnets < needed:
        raise ValueError(f"a space must have at least {needed} subnets to be profiled, got {space.n_subnets}")
    there = store.load(name).profile.space if name in store.names() else space.name
    if there != space.name:
        raise ValueError(
            f"the device {name!r} is measured for the space {there!r}; "
            f"choose another name for {space.name!r}, such as {name}-{space.name}"
        )


def _evaluate(space: Space, name: str, work: _Work, results: Results, batch: int) -> Device:
    """Fit the calibration on some subnets and judge the table on others."""
    blocks = work.block_frame(results)

    def visits(prefix: str, archs: list[Arch], r: int) -> NDArray[np.float64]:
        return np.array([results.visits_ms[f"{prefix}{i}"][r] for i in range(len(archs))])

    def sums(archs: list[Arch]) -> NDArray[np.float64]:
        ms = dict(zip(blocks["block_key"], blocks["latency_ms"], strict=True))
        return np.array([sum(ms[block_key(block)] for block in space.blocks(arch)) for arch in archs])

    def macs(archs: list[Arch]) -> NDArray[np.float64]:
        return np.array([space.macs(arch) for arch in archs], dtype=np.float64)

    known = visits("calibration", work.calibration, 0)
    line = fit_affine(sums(work.calibration), known)
    macs_line = fit_affine(macs(work.calibration), known)
    measured, remeasured = (visits("held_out", work.held_out, r) for r in (0, 1))
    predicted = LatencyTable(name, blocks, line).predict(space.encode(work.held_out), space)
    told = results.device
    profile = DeviceProfile(
        name=name,
        space=space.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=results.seconds,
        key=DeviceKey.model_validate({**told, "batch": batch}),
        hardware=Hardware.model_validate(told),
        n_blocks=len(blocks),
        n_calibration=len(known),
        calibration=line,
        held_out=compare(predicted, measured),
        held_out_macs=compare(macs_line(macs(work.held_out)), measured),
        noise_floor=compare(remeasured, measured).mape,
        split_half_spearman=results.split_half_spearman,
        sentinel_drift=results.sentinel_drift,
    )
    held_out = pd.DataFrame(
        {
            "arch_id": [arch.id for arch in work.held_out],
            "arch": [arch.to_json() for arch in work.held_out],
            "macs": [space.macs(arch) for arch in work.held_out],
            "predicted_latency_ms": predicted,
            "measured_latency_ms": measured,
            "remeasured_latency_ms": remeasured,
        }
    )
    return Device(profile, blocks, work.edge_frame(results), held_out)
