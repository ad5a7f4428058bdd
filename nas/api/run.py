"""`nas.Run`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hw_profiles.connections.base import Connection
from hw_profiles.device import Device
from nas.devices.find_device import find_device
from nas.evaluation.trained_run import TrainedRun
from nas.evaluation.workers import Workers
from nas.export.export import Exported
from nas.export.export_run import export_subnets
from nas.progress import Progress, silent
from nas.report.data import FigureOfMerit
from nas.report.report_run import report_run
from nas.search.options import SearchOptions
from nas.search.search_outcome import SearchOutcome
from nas.search.search_run import search_run
from search_spaces import Arch


class Run(TrainedRun):
    """A trained or imported run, from `Run.open(path)` or `nas.train`.

    The attributes are `space`, `task`, `dataset` and `supernet`. By default, methods write to the run
    directory.
    """

    def search(
        self,
        device: str | Device,
        options: SearchOptions | None = None,
        *,
        profiles: Path | None = None,
        others: Sequence[str | Device] = (),
        workers: Workers | None = None,
        connection: Connection | None = None,
        measure: bool = True,
        progress: Progress = silent,
    ) -> SearchOutcome:
        """Search for the best subnets for a device and measure them on it.

        Args:
            device: a profile or its name.
            options: objectives, limits, algorithm and budget; None: the defaults.
            profiles: folder of profiles; None: the run's copies, the user's folder, and the shipped profiles.
            others: further devices, whose fronts are computed from their latency tables.
            workers: where subnets are evaluated; None: one thread per core.
            connection: how the device is reached, instead of the connection in the profile.
            measure: False: the front has predicted latencies only.
            progress: called after evaluations and measurements.

        Returns:
            the outcome; its `front` is a table of subnets.

        Raises:
            hw_profiles.connections.base.NotMeasuredError: the device is measured offline; the front is
                written with predicted latencies.
            ValueError: unknown names, a profile that lacks blocks of the space, limits that no subnet meets,
                or a device that cannot be reached or computes wrong outputs.
        """
        first, *further = [
            find_device(self.run, d, profiles) if isinstance(d, str) else d for d in (device, *others)
        ]
        return search_run(
            self,
            first,
            options,
            others=further,
            workers=workers,
            connection=connection,
            measure=measure,
            progress=progress,
        )

    def export(
        self,
        subnets: str | Sequence[Arch] = "knee",
        *,
        device: str | None = None,
        file_format: str = "onnx",
        dynamic_batch: bool = False,
        precision: str | None = None,
        calibration: str = "auto",
        out: Path | None = None,
        progress: Progress = silent,
    ) -> list[Exported]:
        """Write subnets as files with model cards, checked against torch.

        Args:
            subnets: the subnets, or how to select them from the front: `knee`, `first`, `last`, `spread`,
                `all`, or ids separated by commas.
            device: the device that the files are for; None: the one that was searched last.
            file_format: `onnx`, or `torch` for a file of `torch.export`.
            dynamic_batch: leave the batch open instead of the device's.
            precision: `fp32`, `fp16`, `int8`, or `mixed`, the precision that the subnet chooses for each
                block. None: `mixed` for subnets that choose precisions, otherwise the precision of the
                device, or fp32 before a search.
            calibration: how the ranges of INT8 activations are found: `minmax`, `percentile`, `entropy`, or
                `auto`, the best of them on the validation split.
            out: the folder to write to; None: one in the run.
            progress: called after every file.

        Raises:
            ValueError: the run was not searched for the device, or the run has not trained a subnet.
        """
        return export_subnets(
            self,
            subnets,
            device=device,
            file_format=file_format,
            dynamic_batch=dynamic_batch,
            precision=precision,
            calibration=calibration,
            out=out,
            progress=progress,
        )

    def report(
        self, *, device: str | None = None, out: Path | None = None, progress: Progress = silent
    ) -> tuple[Path, list[FigureOfMerit]]:
        """Evaluate on the test split and write the report, one HTML page.

        Args:
            device: whose search is reported; None: the device that was searched last.
            out: the folder to write to; None: the folder of the search.
            progress: called after evaluations on the test split.

        Returns:
            the page's path, and its figures.

        Raises:
            ValueError: the run was not searched for the device, or a file of the run is damaged.
        """
        return report_run(self, device=device, out=out, progress=progress)
