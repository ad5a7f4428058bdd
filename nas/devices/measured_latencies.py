"""Latencies of subnets that were measured on a run's device, kept so that nothing is measured twice."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hw_profiles.atomic_write import replace_file
from hw_profiles.connections.base import Connection
from hw_profiles.connections.offline_bundle import OfflineBundle
from hw_profiles.csv_tables import read_table
from hw_profiles.device import Device
from hw_profiles.device_files import BUNDLE
from hw_profiles.measuring import session
from hw_profiles.measuring.bundle import BundleContent, Images, read_job, write_bundle
from hw_profiles.measuring.output_check import check_outputs
from hw_profiles.measuring.results import Results, read_results
from nas.devices.device_graphs import TimedGraph, bundled
from nas.progress import Progress
from search_spaces import Arch, Space

_log = logging.getLogger(__name__)

MEASURED = "measured.csv"
COLUMNS = ("arch_id", "latency_ms", "key")
ImagesOf = Callable[[int], Images]
"""Images of a size in pixels, shape (n, channels, size, size)."""


class MeasuredLatencies:
    """Latencies of subnets, each alone in a fresh process on one device, by arch id.

    Args:
        folder: the run's copy of the device's profile; `measured.csv` in it keeps the latencies.
        device: where they are measured.
        space: of the subnets.
        images: what the device's answers are checked on.
    """

    def __init__(self, folder: Path, device: Device, space: Space, images: ImagesOf) -> None:
        self.folder, self.device, self.space, self.images = folder, device, space, images
        self.key = device.profile.key.model_dump_json()
        path = folder / MEASURED
        kept = read_table(path, COLUMNS) if path.is_file() else pd.DataFrame(columns=list(COLUMNS))
        mine = kept[kept["key"] == self.key]
        self._others = kept[kept["key"] != self.key][list(COLUMNS)]
        self.ms: dict[str, float] = dict(zip(mine["arch_id"], mine["latency_ms"].astype(float), strict=True))

    def prepare(self, connection: Connection) -> None:
        """Before a search, which takes long: refuse a device that is not there, keep what came back from it.

        Raises:
            ValueError: the device cannot be reached or is another one, or what came back is not its results.
        """
        self.device.profile.check_same_device(connection.describe() or {})
        if isinstance(connection, OfflineBundle) and connection.results:
            self._accept(connection.results)

    def measure(self, connection: Connection, archs: Sequence[Arch], progress: Progress) -> None:
        """Measure subnets and keep their latencies.

        Args:
            connection: reaches the device.
            archs: none of them measured yet.
            progress: hears about each.

        Raises:
            NotMeasuredError: a person carries the bundle.
            ValueError: the device cannot be reached, is another one, or computes wrongly.
        """
        bundle = self.folder / BUNDLE
        with session.exclusive_access(self.folder):
            write_bundle(bundle, _content(self.space, archs, self.device, self.images))
            results = session.measure(
                connection, bundle, lambda done, total: progress("measure latency", done, total)
            )
            self._keep(results)
            shutil.rmtree(bundle)

    def _accept(self, path: Path) -> None:
        """Keep what a person brought back for the bundle that was written last."""
        bundle = self.folder / BUNDLE
        if not bundle.is_dir():
            raise ValueError(f"no bundle of this run waits for results; --bundle DIR writes one (got {path})")
        results = read_results(path, read_job(bundle))
        check_outputs(bundle, results)
        self._keep(results)
        shutil.rmtree(bundle)

    def _keep(self, results: Results) -> None:
        self.device.profile.check_same_device(results.device)
        if results.always_slow:
            _log.warning(
                "%d of %d subnets met slow moments of the device %r alone: their latencies may be too high",
                len(results.always_slow),
                len(results.alone),
                self.device.profile.name,
            )
        if results.throttled_share:
            _log.warning(
                "a CPU quota stopped %.0f %% of the measurements on the device %r: the latencies hold for "
                "single runs, a steady load takes longer",
                100 * results.throttled_share,
                self.device.profile.name,
            )
        told = {arch_id: results.alone_latency(arch_id) for arch_id in results.alone}
        self.ms |= {arch_id: figures.latency_ms for arch_id, figures in told.items() if figures}
        frame = pd.DataFrame(
            [(arch_id, ms, self.key) for arch_id, ms in self.ms.items()], columns=list(COLUMNS)
        )
        table = pd.concat([self._others, frame]) if len(self._others) else frame
        replace_file(self.folder / MEASURED, table.to_csv(index=False))


def _content(space: Space, archs: Sequence[Arch], device: Device, images: ImagesOf) -> BundleContent:
    """Whole subnets with random weights, on which latency does not depend."""
    sizes = {arch.id: space.image_size(arch) for arch in archs}
    graphs = [
        TimedGraph(arch.id, space.blocks(arch), 1, alone=True, images=str(sizes[arch.id])) for arch in archs
    ]
    profile = device.profile
    models, weights = bundled(graphs, profile.key, np.random.default_rng(0))
    found = {str(size): images(size) for size in sorted(set(sizes.values()))}
    return BundleContent(
        models, profile.key, weights, found, space=space.name, best_speed_probe_ms=profile.best_speed_probe_ms
    )
