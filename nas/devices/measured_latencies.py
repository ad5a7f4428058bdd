"""Latencies of subnets measured on a device, stored in the run so that no subnet is measured twice."""

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
"""Function of an image size in pixels that returns images, shape (n, channels, size, size)."""


class MeasuredLatencies:
    """Latencies of subnets, each alone in a fresh process on one device, by arch id.

    Args:
        folder: the run's copy of the device profile; `measured.csv` in it stores the latencies.
        device: the device.
        space: the space of the subnets.
        images: images for checking the outputs of the device.
    """

    def __init__(self, folder: Path, device: Device, space: Space, images: ImagesOf) -> None:
        self.folder, self.device, self.space, self.images = folder, device, space, images
        self.key = device.profile.key.model_dump_json()
        path = folder / MEASURED
        rows = read_table(path, COLUMNS) if path.is_file() else pd.DataFrame(columns=list(COLUMNS))
        own = rows[rows["key"] == self.key]
        self._others = rows[rows["key"] != self.key][list(COLUMNS)]
        self.ms: dict[str, float] = dict(zip(own["arch_id"], own["latency_ms"].astype(float), strict=True))

    def prepare(self, connection: Connection) -> None:
        """Check the device before a long search, and store the results of an offline bundle.

        Raises:
            ValueError: the device cannot be reached or is not the device of the profile, or the results are
                not valid.
        """
        self.device.profile.check_same_device(connection.describe() or {})
        if isinstance(connection, OfflineBundle) and connection.results:
            self._read_offline_results(connection.results)

    def measure(self, connection: Connection, archs: Sequence[Arch], progress: Progress) -> None:
        """Measure subnets and store their latencies.

        Args:
            connection: how the device is reached.
            archs: subnets that have not been measured yet.
            progress: called after each subnet.

        Raises:
            NotMeasuredError: the user has to copy the bundle to the device first.
            ValueError: the device cannot be reached, is not the device of the profile, or computes wrong
                outputs.
        """
        bundle = self.folder / BUNDLE
        with session.exclusive_access(self.folder):
            write_bundle(bundle, _content(self.space, archs, self.device, self.images))
            results = session.measure(
                connection, bundle, lambda done, total: progress("measure latency", done, total)
            )
            self._store(results)
            shutil.rmtree(bundle)

    def _read_offline_results(self, path: Path) -> None:
        """Store the results of the bundle that was written last."""
        bundle = self.folder / BUNDLE
        if not bundle.is_dir():
            raise ValueError(f"the run has no unfinished bundle for {path}; write one with --bundle DIR")
        results = read_results(path, read_job(bundle))
        check_outputs(bundle, results)
        self._store(results)
        shutil.rmtree(bundle)

    def _store(self, results: Results) -> None:
        self.device.profile.check_same_device(results.device)
        if results.always_slow:
            _log.warning(
                "the device %r was slow in all trials of %d of %d subnets: their latencies may be too high",
                self.device.profile.name,
                len(results.always_slow),
                len(results.alone),
            )
        if results.throttled_share:
            _log.warning(
                "a CPU quota stopped %.0f %% of the measurements on the device %r: the latencies are valid "
                "for single runs, a continuous load takes longer",
                100 * results.throttled_share,
                self.device.profile.name,
            )
        alone = {arch_id: results.alone_latency(arch_id) for arch_id in results.alone}
        self.ms |= {arch_id: figures.latency_ms for arch_id, figures in alone.items() if figures}
        frame = pd.DataFrame(
            [(arch_id, ms, self.key) for arch_id, ms in self.ms.items()], columns=list(COLUMNS)
        )
        table = pd.concat([self._others, frame]) if len(self._others) else frame
        replace_file(self.folder / MEASURED, table.to_csv(index=False))


def _content(space: Space, archs: Sequence[Arch], device: Device, images: ImagesOf) -> BundleContent:
    """A bundle of whole subnets with random weights; latency does not depend on the values of weights."""
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
