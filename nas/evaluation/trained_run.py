"""A trained run: its space, data set, supernet and archive."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import pandas as pd

from hw_profiles.device import Device
from hw_profiles.device_files import read_device
from nas import tasks
from nas.data.dataset import Dataset, SplitName
from nas.data.validation_part import validation_part
from nas.evaluation.archive import Archive, open_archive
from nas.evaluation.calibration import Calibration
from nas.evaluation.evaluate import Evaluator
from nas.evaluation.workers import Workers
from nas.onnx_backend.calibrate import Method, Ranges
from nas.progress import Progress, silent
from nas.runs.files import ARCHIVE_CSV, PROFILES, SEARCH
from nas.runs.recorded_data import open_data
from nas.runs.records import RunInfo
from nas.runs.run_dir import RunDir
from nas.runs.weights import load_supernet
from nas.tasks import Task, metrics
from nas.torch_backend.allocator import keep_freed_memory
from nas.torch_backend.precision import FP32, check_names
from nas.torch_backend.supernet import Supernet
from search_spaces import Arch, Space
from search_spaces.precision_space import float_arch


@dataclass(frozen=True)
class TrainedRun:
    """A trained run, as the steps after training use it."""

    run: RunDir
    info: RunInfo
    space: Space
    task: Task
    dataset: Dataset
    supernet: Supernet
    archive: Archive
    accelerator: str = "auto"
    """Where subnets are evaluated, as in a recipe."""
    precision: str = FP32
    """Precision of evaluations, as in a recipe."""
    ranges: dict[tuple[str, Method], Ranges] = field(default_factory=dict, init=False, repr=False)
    """Ranges of activations of subnets in fp32 by their ids and the method, for INT8; filled by
    `nas.evaluation.deployed.deployed_model`."""
    _evaluators: dict[Hashable, Evaluator] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        dataset: str | None = None,
        data_root: str | Path | None = None,
        allow_import: bool = False,
    ) -> Self:
        """Open a run directory.

        Args:
            path: the run directory.
            dataset: name of the custom data set, as `module:object`, to allow its import.
            data_root: folder of the images; None: the recorded folder.
            allow_import: whether custom code that the run names may be imported.

        Raises:
            ValueError: the folder is not a run, the run is not trained, the weights are damaged, the data are
                missing or have changed, or an import is not allowed.
        """
        keep_freed_memory()
        run = RunDir.open(path)
        info = run.info()
        if dataset not in (None, info.dataset):
            raise ValueError(f"the data set must be the one of the run, {info.dataset!r}, got {dataset!r}")
        if dataset is not None and ":" not in dataset:
            raise ValueError(f"--dataset has no effect: {dataset} is not a custom data set; leave it out")
        allowed = allow_import or dataset is not None
        space, task = run.space(), tasks.get(info.task, allow_import=allowed)
        images = open_data(run, data_root, allow_import=allowed)
        task.check(info.dataset, images)
        info = run.info()  # an imported run may have recorded its data just now
        return cls(run, info, space, task, images, load_supernet(run), open_archive(run))

    def with_validation_images(self, n_images: int | None) -> Self:
        """The run with a part of its validation images, whose evaluations are separate in the archive.

        Args:
            n_images: size of the part, see `nas.data.validation_part`; None: the run itself.

        Raises:
            ValueError: the validation split has fewer images.
        """
        if n_images is None:
            return self
        strata = self.task.strata(self.dataset.split("validation").targets)
        part = validation_part(self.dataset, strata, n_images)
        return replace(self, dataset=part, archive=open_archive(self.run, n_images))

    def with_accelerator(self, accelerator: str = "auto", precision: str = FP32) -> Self:
        """The run with evaluations on an accelerator.

        Args:
            accelerator: `auto` (a GPU if there is one), `cpu`, `cuda` or `mps`.
            precision: `32-true`, `bf16-mixed` or `16-mixed`; the archive separates evaluations by precision.

        Raises:
            ValueError: a name is unknown.
        """
        check_names(accelerator, precision)
        return replace(self, accelerator=accelerator, precision=precision)

    @property
    def notable_archs(self) -> list[Arch]:
        """The largest and the smallest subnet, or the subnet of a fine-tuned run."""
        return [self.info.arch] if self.info.arch else [self.space.largest, self.space.smallest]

    def check_trained(self, archs: Iterable[Arch]) -> None:
        """Check that subnets were trained in the run.

        Raises:
            ValueError: the run is a fine-tuned run of another subnet.
        """
        finetuned = self.info.arch
        for arch in archs:
            if finetuned and float_arch(self.space, arch).id != finetuned.id:
                raise ValueError(
                    f"the run {self.run.path} has only one subnet, {finetuned.id}; the subnet {arch.id} was "
                    "not trained in it: leave out --arch and --samples, or use the run that was fine-tuned"
                )

    def evaluator(
        self,
        *,
        split: SplitName = "validation",
        calibration: Calibration | None = None,
        extra_metrics: Sequence[str] = (),
    ) -> Evaluator:
        """The evaluator of subnets; equal arguments give the same object.

        `extra_metrics` may be names or `module:object`. Objects are imported, so they must not be taken from
        the files of the run.
        """
        names = tuple(dict.fromkeys((*self.task.shown, *extra_metrics)))
        key = split, calibration or Calibration(), names
        if key not in self._evaluators:
            table = {name: metrics.get(name, self.task.metrics, allow_import=True) for name in names}
            self._evaluators[key] = Evaluator(
                self.supernet,
                self.dataset,
                self.task,
                self.archive,
                table,
                split=split,
                calibration=calibration,
                accelerator=self.accelerator,
                precision=self.precision,
            )
        return self._evaluators[key]

    def evaluate(
        self,
        archs: Sequence[Arch] = (),
        *,
        metrics: Sequence[str] = (),
        calibration: Calibration | None = None,
        workers: Workers | None = None,
        progress: Progress = silent,
    ) -> pd.DataFrame:
        """Evaluate subnets on the validation split, with inherited weights and BN recalibration.

        Args:
            archs: the subnets; empty: the largest and the smallest, or the subnet of a fine-tuned run.
            metrics: further metrics, names or `module:object`.
            calibration: BN recalibration; None: with 512 clean training images.
            workers: evaluate subnets in parallel; None: one thread per core.
            progress: called after each subnet.

        Returns:
            A row for each subnet: `arch`, `arch_id`, its metrics, `macs` and `params`.

        Raises:
            ValueError: a metric is unknown, or a subnet was not trained in the run.
        """
        archs = archs or self.notable_archs
        self.check_trained(archs)
        evaluator = self.evaluator(calibration=calibration, extra_metrics=metrics)
        results = evaluator(archs, "evaluate", workers=workers, progress=progress)
        self.write_archive_csv()
        return pd.DataFrame(
            {
                "arch": archs,
                "arch_id": [arch.id for arch in archs],
                **{name: [result[name] for result in results] for name in evaluator.metrics},
                "macs": [self.space.macs(arch) for arch in archs],
                "params": [self.space.params(arch) for arch in archs],
            }
        )

    def device(self, name: str | None = None) -> Device | None:
        """A device for which the run was searched, by default in the last search; None before any search.

        Raises:
            ValueError: the run was not searched for this device, or its copy of the profile is damaged.
        """
        if name is None and self.run.last_device is None:
            return None
        record = self.run.search(name).read_json(SEARCH)
        folder = self.run.file(PROFILES) / record["device"]
        return replace(read_device(folder), run_copy=folder)

    def write_archive_csv(self) -> None:
        """Write the archive as a CSV file."""
        self.archive.write_csv(self.run.file(ARCHIVE_CSV))
