"""The record of a run's data, which is made with the run and checked whenever the data set is opened."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nas.data import catalog, image_folder
from nas.data.check_files import check_files
from nas.data.content_hash import content_hash
from nas.data.data_record import (
    FileRecord,
    check_unchanged,
    fingerprint,
    read_csv,
    record_files,
    to_csv,
)
from nas.data.dataset import Dataset, ImageDataset
from nas.data.image_scan import plural
from nas.data.preprocess import Preprocess
from nas.runs.files import FILES, RUN
from nas.runs.records import RunInfo
from nas.runs.run_dir import RunDir
from search_spaces import Space
from search_spaces.errors import first_names

_log = logging.getLogger("nas")
IMAGE_FOLDER_CHANNELS = {"imagefolder": 3, "imagefolder-grey": 1}
"""Channels of the data sets whose files are recorded; for others, only a fingerprint is recorded."""


@dataclass(frozen=True)
class DataRecord:
    """The record of a run's data."""

    data_root: str | None
    """Absolute path of the folder of the images; None if the data set needs no folder."""
    fingerprint: str
    files: Sequence[FileRecord] = ()
    """Files of an image folder; empty for other data sets."""

    @property
    def contents(self) -> dict[str, bytes]:
        """Contents of the files for the run directory, by name."""
        return {FILES: to_csv(self.files)} if self.files else {}


def record(name: str, dataset: Dataset, data_root: str | Path | None) -> DataRecord:
    """The record of a data set.

    Raises:
        ValueError: an image cannot be read.
    """
    root = None if data_root is None else os.path.abspath(data_root)
    if name not in IMAGE_FOLDER_CHANNELS:
        return DataRecord(root, content_hash(dataset))
    assert root is not None
    files = record_files(dataset, Path(root))
    return DataRecord(root, fingerprint(files), files)


def open_data(run: RunDir, data_root: str | Path | None = None, *, allow_import: bool = False) -> Dataset:
    """The data set of a run, with the files and the splits that were recorded when the run was made.

    If an imported run has no record of its images yet, the images in `data_root` are recorded.

    Args:
        run: the run.
        data_root: folder of the images; None: the recorded folder.
        allow_import: whether a custom data set may be imported.

    Raises:
        ValueError: the data are missing or have changed, or the import is not allowed.
    """
    dataset = _open(run, data_root, allow_import=allow_import)
    return with_preprocess(dataset, run.info().preprocess)


def with_preprocess(dataset: Dataset, preprocess: Preprocess | None) -> Dataset:
    """A data set of the toolkit with another preprocessing; None: unchanged."""
    if preprocess is None:
        return dataset
    assert isinstance(dataset, ImageDataset)
    return replace(dataset, preprocess=preprocess)


def _open(run: RunDir, data_root: str | Path | None, *, allow_import: bool) -> Dataset:
    info = run.info()
    root = data_root or info.data_root
    if info.data_fingerprint is None:
        return _open_first(run, info, root, allow_import=allow_import)
    if run.has(FILES):
        return _open_files(run, info, root)
    dataset = _load(info, root, allow_import=allow_import)
    _check_classes(info, dataset.output_names)
    fingerprint_now = content_hash(dataset)
    if fingerprint_now != info.data_fingerprint:
        raise ValueError(
            f"the images, labels and splits of the data set {info.dataset!r} must not change after the run "
            f"was created (fingerprint {info.data_fingerprint}), got the fingerprint {fingerprint_now}; "
            f"restore them or start a new run"
        )
    return dataset


def check_outside(name: str, data_root: str | Path | None, out: str | Path) -> None:
    """Check that a run directory is not inside its data set, where it would be read as a class.

    Args:
        name: name of the data set.
        data_root: folder of the data set.
        out: the run directory.

    Raises:
        ValueError: the data set is an image folder and `out` is inside it.
    """
    if (
        name in IMAGE_FOLDER_CHANNELS
        and data_root
        and Path(out).resolve().is_relative_to(Path(data_root).resolve())
    ):
        raise ValueError(f"the run directory {out} must be outside of the data root {data_root}")


def check_fits(dataset: Dataset, space: Space) -> None:
    """Check that a data set has the input channels and the number of classes of imported weights.

    Raises:
        ValueError: the channels or the numbers of classes differ.
    """
    channels, inputs = dataset.preprocess.channels, space.config.channels
    if channels != inputs:
        raise ValueError(
            f"imported weights have {plural(inputs, 'input channel')}, but the images of the data set have "
            f"{channels}; give a custom data set (module:object) whose `preprocess` has as many"
        )
    names, outputs = len(dataset.output_names), space.config.outputs
    if names != outputs:
        raise ValueError(
            f"imported weights have {outputs} outputs, but the data set has {names} classes; for images of "
            f"a subset of the classes, give the import a list of all classes in the order of the outputs "
            f"(--classes FILE)"
        )


def _open_files(run: RunDir, info: RunInfo, data_root: str | Path | None) -> Dataset:
    root = Path(data_root or "")
    if data_root is None or not root.is_dir():
        raise ValueError(
            f"the images of the run {run.path} are not in {root}; give their folder with --data-root"
        )
    files = read_csv(run.file(FILES))
    if fingerprint(files) != info.data_fingerprint:
        raise ValueError(f"{run.file(FILES)} must be unchanged since the run was made; restore it")
    check_unchanged(files, root)
    in_classes = all(file.file.startswith(f"{info.output_names[file.label]}/") for file in files)
    splits = set() if in_classes else {file.file.partition("/")[0] for file in files}
    added = set(image_folder.image_names(root, splits)) - {file.file for file in files}
    if added:
        are = "is" if len(added) == 1 else "are"
        count = plural(len(added), "image")
        _log.info("%s in %s %s not part of the run and %s ignored", count, root, are, are)
    recorded = [(f.split, f.file, f.label) for f in files]
    return image_folder.of_files(root, info.output_names, recorded, IMAGE_FOLDER_CHANNELS[info.dataset])


def _open_first(run: RunDir, info: RunInfo, root: str | Path | None, *, allow_import: bool) -> Dataset:
    if info.imported is None:
        raise ValueError(
            f"the run {run.path} was made by an earlier version of the toolkit and has no record of its "
            f"images; start a new run"
        )
    dataset = _load(info, root, allow_import=allow_import)
    _check_classes(info, dataset.output_names)
    check_fits(dataset, run.space())
    check_files(dataset)
    data = record(info.dataset, dataset, root)
    update = {
        "data_root": data.data_root,
        "data_fingerprint": data.fingerprint,
        "output_names": list(dataset.output_names),
    }
    try:
        for name, content in data.contents.items():
            run.write_bytes(name, content)
        run.write_json(RUN, info.model_copy(update=update))
    except OSError as error:
        raise ValueError(
            f"an imported run records its images when they are first used, but {run.path} cannot be written: "
            f"{error.strerror}"
        ) from None
    return dataset


def _load(info: RunInfo, root: str | Path | None, *, allow_import: bool) -> Dataset:
    if info.imported is None:
        return catalog.get(info.dataset, root, info.split_seed, allow_import=allow_import)
    return catalog.get_for_imported(
        info.dataset,
        root,
        info.split_seed,
        validation_images=info.imported.validation_images,
        classes=info.output_names,
        allow_import=allow_import,
    )


def _check_classes(info: RunInfo, names: Sequence[str]) -> None:
    if info.output_names in ([], list(names)):
        return
    missing = [name for name in info.output_names if name not in names]
    new = [name for name in names if name not in info.output_names]
    parts = [f"missing: {first_names(missing)}" * bool(missing), f"new: {first_names(new)}" * bool(new)]
    raise ValueError(
        f"the data set {info.dataset!r} must have the {len(info.output_names)} classes that the run was made "
        f"with, got {len(names)}; {'; '.join(filter(None, parts)) or 'the same in another order'}"
    )
