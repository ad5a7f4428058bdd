"""Supernet training with any sampler, device and number of processes."""

from __future__ import annotations

import logging
import signal
import time
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path

import torch
from lightning_fabric import Fabric

import search_spaces
from nas import tasks
from nas.data.batches import batches_per_epoch
from nas.data.catalog import for_channels
from nas.data.catalog import get as get_dataset
from nas.data.check_files import check_files
from nas.data.dataset import Dataset, summary
from nas.data.preprocess import Preprocess
from nas.progress import Progress, silent
from nas.recipes.groups import BatchNormConfig
from nas.recipes.keys import differences
from nas.recipes.recipe import Recipe
from nas.recipes.recipe import parse as parse_recipe
from nas.runs.files import RECIPE, SPACE, SUPERNET, TRANSFER
from nas.runs.lock import locked
from nas.runs.recorded_data import check_outside, open_data, record, with_preprocess
from nas.runs.records import RunInfo, now, versions
from nas.runs.run_dir import RunDir
from nas.runs.weights import save_supernet
from nas.samplers import Sampler, make_sampler
from nas.stopping import Stopped, stop_signals
from nas.tasks import Task
from nas.torch_backend.allocator import keep_freed_memory
from nas.training.accelerator import (
    any_rank,
    check_shares,
    default_threads,
    local_processes,
    make_fabric,
    on_rank_zero,
)
from nas.training.checkpoint import Checkpoints
from nas.training.checkpointer import Checkpointer
from nas.training.data_order import DATA_ORDERS
from nas.training.loaders import batches, loader_processes, make_mixer, with_augmentation
from nas.training.log import TrainingLog
from nas.training.monitor import Monitor
from nas.training.pretrained import Prepared, prepare
from nas.training.schedule import LearningRate
from nas.training.state import TrainingState
from nas.training.step import TrainingStep
from nas.training.supervision import INIT, load_teachers, make_supervision
from nas.training.transfer import Transfer, transfer
from search_spaces import Space
from search_spaces.space import RankableSpace

_log = logging.getLogger("nas")


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    sampler: Sampler | None = None,
    check_images: bool | None = None,
    progress: Progress = silent,
) -> RunDir:
    """Train a supernet.

    The order of the data, the augmentation and the subnets of a step depend only on the seed and the step, so
    a resumed run gives exactly the result of an uninterrupted run.

    Args:
        recipe: the recipe.
        out: the run directory to create.
        resume: continue the run in `out`; start a new run if the folder is missing or empty.
        sampler: chooses the subnets of each step, instead of the sampler of the recipe.
        check_images: read all image files before the run is created; None: only if there are not too many,
            see `nas.data.check_files.check_files`.
        progress: called after every step.

    Returns:
        the run, with its trained weights.

    Raises:
        ValueError: unknown names in the recipe, missing data, unreadable images, a non-empty folder `out`, or
            training that diverged.
        Stopped: on SIGINT, SIGTERM or SIGHUP, after the state was saved; a `KeyboardInterrupt`.
    """
    keep_freed_memory()
    check_outside(recipe.data.dataset, recipe.data.root, out)
    recipe = recipe.replace({"space": _space_name(recipe)})
    channels = search_spaces.get(recipe.space).config.channels
    recipe = recipe.replace({"data.dataset": for_channels(recipe.data.dataset, channels)})
    fabric = make_fabric(recipe.compute, recipe.data.batch_size)
    with ExitStack() as stack:
        on_rank_zero(fabric, lambda: stack.enter_context(locked(out, create=True)))
        return _train(
            recipe,
            Path(out),
            fabric,
            resume=resume,
            sampler=sampler,
            check_images=check_images,
            progress=progress,
        )


def _train(
    recipe: Recipe,
    out: Path,
    fabric: Fabric,
    *,
    resume: bool,
    sampler: Sampler | None,
    check_images: bool | None,
    progress: Progress,
) -> RunDir:
    torch.set_num_threads(recipe.compute.threads or default_threads(local_processes(recipe.compute)))
    resumed = on_rank_zero(fabric, lambda: resume and RunDir(out).created)
    if resumed:
        _check_recipe(recipe, RunDir.open(out))
    task = tasks.get(recipe.task, allow_import=True)
    dataset = _open_data(recipe, RunDir(out) if resumed else None)
    task.check(recipe.data.dataset, dataset)
    if fabric.is_global_zero:
        _log.info(
            "%s: %s",
            recipe.data.root or recipe.data.dataset,
            summary(dataset, task.describe(dataset.output_names)),
        )
    check_shares(recipe.compute, recipe.data.batch_size, len(dataset.split("train")))
    space = search_spaces.get(recipe.space).with_data(
        outputs=len(dataset.output_names),
        channels=dataset.preprocess.channels,
        resolutions=(int(recipe.arch["resolution"]),) if recipe.arch else None,
    )
    _check_batch_norm(recipe, space)
    if fabric.is_global_zero and not space.has_batch_norm:
        _log.info("the space %s has no batch norms: its subnets need no recalibration", space.name)
    space, prepared = _ordered(recipe, space, dataset, task, fabric, out, resumed=resumed)
    sampler = sampler or make_sampler(space, recipe)
    steps_per_epoch = batches_per_epoch(dataset, recipe.data.batch_size)
    schedule = LearningRate(recipe, steps_per_epoch)
    images = with_augmentation(dataset, recipe.augmentation.kind, task)
    data_order = DATA_ORDERS[recipe.data.order](len(dataset.split("train")))
    log = TrainingLog(space, recipe.logging.every_n_steps or steps_per_epoch, task.headline.metric)
    state = TrainingState.start(recipe, space, fabric, sampler, data_order, log)
    teachers = load_teachers(recipe, space, dataset.output_names, fabric.device)
    if prepared:
        state.supernet.load_state_dict(prepared.weights)
    transferred = prepared.transferred if prepared else _transferred(recipe, state, out, dataset)
    mix = make_mixer(recipe, task, dataset)
    supervision = make_supervision(recipe, task, teachers)
    take_step = TrainingStep(fabric, state, recipe, task, supervision, schedule.total)

    def open_run() -> RunDir:
        if not resumed:
            RunDir.check_free(out)
        if check_images or not resumed:
            check_files(dataset, check_images, progress)
        return _open_run(recipe, out, space, dataset, resumed=resumed)

    run = on_rank_zero(fabric, open_run)
    if on_rank_zero(fabric, lambda: run.has(SUPERNET)):
        return run
    if transferred and fabric.is_global_zero:
        run.write_json(TRANSFER, transferred)
        _log.info("%s", transferred.note)
    checkpointer = Checkpointer(fabric, run, state, recipe.checkpoints)
    checkpointer.resume()
    monitor = None
    if fabric.is_global_zero:
        monitor = Monitor(
            run,
            processes=loader_processes(recipe, space, images),
            tensorboard=recipe.logging.tensorboard,
        )
    monitored = closing(monitor) if monitor else nullcontext()
    if monitor is None:
        progress = silent

    loaded = batches(recipe, space, images, data_order, mix, fabric, state.step, schedule.total)
    with stop_signals() as stop, checkpointer.handle_errors(), closing(loaded), monitored:
        for batch in loaded:
            lr, begin = schedule(state.step), time.perf_counter()
            trained = take_step(batch, lr)
            row_ended = state.log.add(state.step, lr, trained)
            if monitor:
                monitor.step(batch.total, batch.loading_seconds, time.perf_counter() - begin)
                if row_ended:
                    monitor.row(state.log.rows[-1])
            progress(f"train, loss {trained[0].loss:.3f}", state.step, schedule.total)
            if any_rank(fabric, stop.number is not None):
                checkpointer.save()
                raise Stopped(stop.number or signal.SIGTERM)
            checkpointer.save_if_due()
    checkpointer.save()
    on_rank_zero(fabric, lambda: save_supernet(run, state.trained_weights()))
    return run


def _check_batch_norm(recipe: Recipe, space: Space) -> None:
    if recipe.batch_norm != BatchNormConfig() and not space.has_batch_norm:
        raise ValueError(
            f"batch_norm has no effect in the space {space.name!r}, which has no batch norms; leave it out"
        )


def _ordered(
    recipe: Recipe, space: Space, dataset: Dataset, task: Task, fabric: Fabric, out: Path, *, resumed: bool
) -> tuple[Space, Prepared | None]:
    """The space with the order of blocks, and the ordered weights that a new training starts from."""
    if recipe.ordering.kind == "none":
        return space, None
    if not isinstance(space, RankableSpace):
        raise ValueError(
            f"ordering is for spaces of the families vit and traced, got {space.name!r} of the family "
            f"{space.config.family!r}; leave ordering out"
        )
    if resumed and Checkpoints(RunDir(out)).paths():
        return RunDir(out).space(), None
    prepared = on_rank_zero(fabric, lambda: prepare(recipe, space, dataset, task, fabric.device))
    return prepared.space, prepared


def _transferred(recipe: Recipe, state: TrainingState, out: Path, dataset: Dataset) -> Transfer | None:
    """Load the weights of the recipe's `init`, unless training resumes from a checkpoint."""
    if recipe.init is None or Checkpoints(RunDir(out)).paths():
        return None
    return transfer(state.supernet, recipe.init, dataset.output_names)


def _open_data(recipe: Recipe, run: RunDir | None) -> Dataset:
    """Open the data set with the splits that apply to the run.

    A resumed run uses its recorded splits. A new run with `init` on the same folder of images uses the splits
    of the run in `init`, so that no image changes its split. Any other run splits the current images.
    """
    if run is None and recipe.init is not None and recipe.data.root is not None:
        source = RunDir.open(recipe.init)
        info = source.info()
        same = (info.dataset, info.split_seed) == (recipe.data.dataset, recipe.data.split_seed)
        folders = {Path(root).resolve() for root in (info.data_root, recipe.data.root) if root}
        if same and info.data_root and len(folders) == 1:
            run = source
    if run is None:
        new = get_dataset(recipe.data.dataset, recipe.data.root, recipe.data.split_seed, allow_import=True)
        return with_preprocess(new, _preprocess(recipe))
    named_by_user = recipe.data.dataset == run.info().dataset  # otherwise, the run would name code to import
    return open_data(run, recipe.data.root, allow_import=named_by_user)


def _space_name(recipe: Recipe) -> str:
    """The name or file of the recipe's space.

    Raises:
        ValueError: the recipe takes the space from `init`, but has no `init`.
    """
    if recipe.space != INIT:
        return recipe.space
    if recipe.init is None:
        raise ValueError("space: init needs the key init (--init RUN), a run from which training starts")
    return str(RunDir.open(recipe.init).file(SPACE))


def _preprocess(recipe: Recipe) -> Preprocess | None:
    """The preprocessing of the run in `init`, if it is for the same kind of images."""
    info = RunDir.open(recipe.init).info() if recipe.init else None
    return info.preprocess if info and info.dataset == recipe.data.dataset else None


def _check_recipe(recipe: Recipe, run: RunDir) -> None:
    """Check that a run to resume was started by this recipe."""
    recorded = parse_recipe(run.read_text(RECIPE), source=str(run.file(RECIPE)))
    changed = differences(recorded, recipe)
    if changed:
        raise ValueError(
            f"cannot resume {run.path}: {', '.join(changed)} changed since it was started; use another --out"
        )


def _open_run(recipe: Recipe, out: Path, space: Space, dataset: Dataset, *, resumed: bool) -> RunDir:
    """Create the run directory, or check that a resumed run has the same space."""
    if not resumed:
        data = record(recipe.data.dataset, dataset, recipe.data.root)
        info = RunInfo(
            created=now(),
            versions=versions(),
            space=space.name,
            dataset=recipe.data.dataset,
            task=recipe.task,
            data_root=data.data_root,
            data_fingerprint=data.fingerprint,
            split_seed=recipe.data.split_seed,
            preprocess=_preprocess(recipe),
            output_names=list(dataset.output_names),
            seed=recipe.seed,
            arch=recipe.arch,
            quantised=recipe.finetuning.quantise,
        )
        return RunDir.create(out, info, space, recipe.to_yaml(), data.contents)
    run = RunDir.open(out)
    if run.space().config != space.config:
        raise ValueError(
            f"cannot resume {out}: the space's YAML file changed since it was started; use another --out"
        )
    return run
