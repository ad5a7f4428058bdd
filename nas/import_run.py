"""Runs whose weights were trained elsewhere."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from nas.checkpoint import save_supernet
from nas.data.catalog import get as get_dataset
from nas.data.dataset import Dataset
from nas.data.image_folder import ImageFiles, file_names
from nas.importers import has_statistics
from nas.run_dir import VALIDATION_FILES, Imported, RunDir, RunInfo, now, versions
from nas.supernet import Supernet
from search_spaces import Space

DEFAULT_DATASET = "imagefolder"
_log = logging.getLogger("nas")


def import_run(
    supernet: Supernet,
    out: str | Path,
    *,
    source: str,
    checkpoint: str | Path,
    dataset: str | None = None,
    data_root: str | Path | None = None,
    split_seed: int = 0,
) -> RunDir:
    """Make the run directory of an imported supernet; it works like one that training made.

    Args:
        supernet: the weights.
        out: the run directory.
        source: the tool that trained them.
        checkpoint: the file that they come from.
        dataset: images for evaluations, a name or `module:object`; by default a folder in ImageNet's layout.
        data_root: its folder; without any images here, whoever opens the run gives the folder.
        split_seed: decides which images of `val/` steer the search.

    Raises:
        ValueError: `out` holds something already, or the images are missing or do not fit the weights.
    """
    name = dataset or DEFAULT_DATASET
    images = None
    if dataset or data_root:
        images = get_dataset(name, data_root, split_seed, imported_weights=True)
        check_classes(images, supernet.space)
    info = RunInfo(
        created=now(),
        versions=versions(),
        space=supernet.space.name,
        dataset=name,
        data_root=str(data_root) if data_root else None,
        split_seed=split_seed,
        classes=list(images.class_names) if images else [],
        imported=Imported(
            source=source,
            checkpoint=Path(checkpoint).name,
            sha256=hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest(),
            calibrated=has_statistics(supernet),
        ),
    )
    run = RunDir.create(out, info, supernet.space, f"# not trained here: weights of {source}\n")
    save_supernet(run, supernet.state_dict())
    if images and data_root:
        keep_validation_files(run, images, Path(data_root))
    return run


def check_classes(dataset: Dataset, space: Space) -> None:
    """Check that every class has an output; fewer classes than outputs are worth a warning.

    Raises:
        ValueError: there are more classes than outputs.
    """
    classes, outputs = len(dataset.class_names), space.config.classes
    if classes > outputs:
        raise ValueError(f"imported weights have {outputs} outputs, the data set has {classes} classes")
    if classes < outputs:
        _log.warning(
            "the data set has %d classes, the weights have %d outputs: class i is taken for output i; "
            "with class folders left out, every accuracy is wrong",
            classes,
            outputs,
        )


def keep_validation_files(run: RunDir, dataset: Dataset, root: Path) -> None:
    """List the images that steer the search in the run, or check that they are those listed.

    Raises:
        ValueError: other files lie in `val/` than when the run began, so that images which steered the search
            could get into the final report.
    """
    split = dataset.split("validation")
    if not isinstance(split.images, ImageFiles):
        return
    names = "\n".join(file_names(split, root)) + "\n"
    if not run.has(VALIDATION_FILES):
        run.write_text(VALIDATION_FILES, names)
    elif run.read_text(VALIDATION_FILES) != names:
        raise ValueError(
            f"the images of {root} must be those that the run began with, but its {VALIDATION_FILES} lists "
            f"other files; restore them, or import the weights into another run"
        )
