"""Creation of runs from imported supernets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from nas.data.catalog import get_for_imported
from nas.data.check_files import check_files
from nas.data.dataset import Dataset
from nas.data.image_folder import MAX_VALIDATION
from nas.importing.importers import SINGLE_NETWORKS, has_statistics
from nas.importing.source_preprocess import source_preprocess
from nas.progress import Progress, silent
from nas.runs.lock import locked
from nas.runs.recorded_data import check_fits, check_outside, record
from nas.runs.records import Imported, RunInfo, now, versions
from nas.runs.run_dir import RunDir
from nas.runs.weights import save_supernet
from nas.torch_backend.supernet import Supernet
from search_spaces.text_files import read_text

DEFAULT_DATASET = "imagefolder"


def import_run(
    supernet: Supernet,
    out: str | Path,
    *,
    source: str,
    checkpoint: str | Path | None,
    dataset: str | None = None,
    data_root: str | Path | None = None,
    split_seed: int = 0,
    validation_images: int = MAX_VALIDATION,
    classes: Sequence[str] = (),
    resolutions: Sequence[int] = (),
    model: str | None = None,
    check_images: bool | None = None,
    options: Sequence[str] = (),
    sort: Callable[[Dataset], None] | None = None,
    progress: Progress = silent,
) -> RunDir:
    """Create the run directory of an imported supernet, which can be used like a trained run.

    Args:
        supernet: the supernet.
        out: the run directory to create.
        source: name of the tool that trained the weights.
        checkpoint: the file of the weights; None: there is no file.
        dataset: images for evaluations, a name or `module:object`; by default a folder in ImageNet's layout.
        data_root: folder of the images; None: it is specified when the run is used.
        split_seed: seed of the choice of images of `val/` for the validation split.
        validation_images: number of images of the validation split, at most half of `val/`.
        classes: class folders of the outputs in order; needed only if images of some classes are missing.
        resolutions: resolutions of subnets in pixels; if empty, all resolutions of the space.
        model: name of the network in torchvision or timm, which determines its preprocessing; None: the name
            of the file.
        check_images: read all image files first; None: only if there are not too many, see
            `nas.data.check_files.check_files`.
        options: options of the command `nas import` that makes the same run, for the report.
        sort: called with the data set, if there is one, before the weights are saved; it may reorder them.
        progress: called after every checked image file.

    Returns:
        the run.

    Raises:
        ValueError: `out` is not empty or is in `data_root`, the images are missing or do not match the
            weights, or the space does not have a resolution.
    """
    name = dataset or DEFAULT_DATASET
    preprocess = None
    if name == DEFAULT_DATASET and supernet.space.config.channels == 3:
        preprocess = source_preprocess(
            source, model or Path(checkpoint or "").stem, supernet.space.resolutions[-1]
        )
    space = supernet.space.with_resolutions(resolutions) if resolutions else supernet.space
    images = None
    check_outside(name, data_root, out)
    if dataset or data_root:
        images = get_for_imported(
            name,
            data_root,
            split_seed,
            validation_images=validation_images,
            classes=classes,
            allow_import=True,
        )
        check_fits(images, space)
        RunDir.check_free(out)
        check_files(images, check_images, progress)
        if sort:
            sort(images)
    data = record(name, images, data_root) if images else None
    info = RunInfo(
        created=now(),
        versions=versions(),
        space=space.name,
        dataset=name,
        data_root=data.data_root if data else None,
        data_fingerprint=data.fingerprint if data else None,
        split_seed=split_seed,
        preprocess=preprocess,
        output_names=list(images.output_names if images else classes),
        imported=Imported(
            source=source,
            checkpoint=Path(checkpoint).name if checkpoint else None,
            sha256=hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest() if checkpoint else None,
            calibrated=has_statistics(supernet),
            validation_images=validation_images,
            subnets_trained=source not in SINGLE_NETWORKS,
            options=list(options),
        ),
    )
    with locked(out, create=True):
        run = RunDir.create(
            out, info, space, f"# not trained here: weights of {source}\n", data.contents if data else {}
        )
        save_supernet(run, supernet.state_dict())
        return run


def read_classes(path: str | Path) -> list[str]:
    """Read a class list from a text file.

    The first word of each line is the folder of a class, as in ImageNet's `LOC_synset_mapping.txt`.

    Raises:
        ValueError: the file is missing, empty or not text, or has a class twice.
    """
    try:
        lines = read_text(path).splitlines()
    except OSError as error:
        raise ValueError(f"cannot read the class list {path}: {error.strerror}") from None
    names = [line.split()[0] for line in lines if line.strip()]
    if not names:
        raise ValueError(f"{path} must have a line for each class, got an empty file")
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise ValueError(f"{path} must have each class once, got several lines of {', '.join(duplicates)}")
    return names
