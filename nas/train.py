"""Supernet training: one loop for every sampler, device and number of processes."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import search_spaces
from nas.allocator import keep_freed_memory
from nas.checkpoint import Checkpoints, save_supernet
from nas.data.batches import Batch, batches_per_epoch, train_batches
from nas.data.catalog import get as get_dataset
from nas.data.dataset import Dataset
from nas.losses import distillation_loss, label_loss
from nas.plugins import check, resolve
from nas.progress import Progress, silent
from nas.recipe import Recipe
from nas.recipe import parse as parse_recipe
from nas.run_dir import RECIPE, SUPERNET, TRAINING_LOG, RunDir, RunInfo, now, versions
from nas.samplers import SAMPLERS, Sampler
from nas.supernet import Supernet
from search_spaces import Arch, Space


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    sampler: Sampler | None = None,
    progress: Progress = silent,
) -> RunDir:
    """Train a supernet and leave it in a run directory.

    The order of the data, the augmentation and the subnets of a step depend on the seed and the step alone,
    so a run that was stopped goes on exactly as if it had not been.

    Args:
        recipe: what to train and how.
        out: the run directory.
        resume: go on with the run in `out`; a missing or empty folder is started.
        sampler: chooses the subnets of each step, instead of the one that the recipe names.
        progress: hears about every step.

    Raises:
        ValueError: bad names in the recipe, missing data, an `out` that holds something else, or training
            that diverged.
        KeyboardInterrupt: on SIGINT or SIGTERM, after the state was saved.
    """
    keep_freed_memory()
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    fabric = make_fabric(recipe)
    fabric.launch()
    dataset = get_dataset(recipe.dataset, recipe.data_root, recipe.split_seed)
    space = search_spaces.get(recipe.space)
    space = space.with_data(classes=len(dataset.class_names), channels=dataset.preprocess.channels)
    sampler = sampler or make_sampler(space, recipe)
    run = _open_run(recipe, Path(out), space, dataset, resume=resume)
    if run.has(SUPERNET):
        return run

    steps_per_epoch = batches_per_epoch(dataset, recipe.batch_size)
    schedule = Schedule(recipe, steps_per_epoch)
    state = TrainingState.start(recipe, space, fabric, sampler)
    checkpoints = Checkpoints(run)
    saved = checkpoints.load(state.state_dict())
    if saved is not None:
        state.load_state_dict(saved)

    def save() -> None:
        if fabric.is_global_zero:
            checkpoints.save(state.state_dict(), state.step)
            if state.log:
                run.write_csv(TRAINING_LOG, pd.DataFrame(state.log))

    with _stop_signals() as stop:
        last_saved = time.monotonic()
        for x, y in _batches(recipe, space, dataset, fabric, state.step, schedule.total):
            subnets = sampler.subnets(rng_of(recipe.seed, "subnets", state.step), x.shape[-1])
            losses = _step(fabric, state, subnets, x, y, schedule(state.step), recipe)
            sampler.observe(subnets, losses)
            state.count(losses, lr=schedule(state.step), steps_per_epoch=steps_per_epoch)
            progress(f"train, loss {losses[0]:.3f}", state.step, schedule.total)
            if stop.is_set() or time.monotonic() - last_saved > 60 * recipe.checkpoint_minutes:
                save()
                last_saved = time.monotonic()
            if stop.is_set():
                raise KeyboardInterrupt
    save()
    if fabric.is_global_zero:
        save_supernet(run, state.trained_weights())
    return run


@dataclass
class TrainingState:
    """Everything that changes while training, and so everything that a checkpoint holds."""

    supernet: Supernet
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    """Exponential moving average of the weights."""
    sampler: Sampler
    step: int = 0
    log: list[dict[str, float]] = field(default_factory=list)
    """One row per finished epoch."""
    epoch_losses: list[list[float]] = field(default_factory=list)
    """Losses of the subnets of each step of the epoch that is under way."""

    @classmethod
    def start(cls, recipe: Recipe, space: Space, fabric: Fabric, sampler: Sampler) -> TrainingState:
        """The state before the first step."""
        supernet = Supernet(space, recipe.seed, zero_init_residual=recipe.zero_init_residual)
        supernet.to(fabric.device).train()
        average = None
        if recipe.ema_decay:
            average = AveragedModel(supernet, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay))
        optimizer = fabric.setup_optimizers(make_optimizer(supernet, recipe))
        assert isinstance(optimizer, torch.optim.Optimizer)  # one in, one out
        return cls(supernet, optimizer, average, sampler)

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors for a checkpoint."""
        return {
            "supernet": self.supernet.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "sampler": self.sampler.state_dict(),
            "log": self.log,
            "epoch_losses": self.epoch_losses,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go back to the state of a checkpoint."""
        self.supernet.load_state_dict(saved["supernet"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.average:
            self.average.load_state_dict(saved["average"])
        self.sampler.load_state_dict(saved["sampler"])
        self.step, self.log, self.epoch_losses = saved["step"], saved["log"], saved["epoch_losses"]

    def count(self, losses: list[float], lr: float, steps_per_epoch: int) -> None:
        """Note that a step is done; at the end of an epoch, write its row of the log."""
        self.step += 1
        self.epoch_losses.append(losses)
        if self.step % steps_per_epoch == 0:
            means = np.mean(np.array(self.epoch_losses), axis=0)
            row = {"epoch": self.step // steps_per_epoch, "step": self.step, "lr": lr}
            self.log.append(row | {f"loss_{i}": float(mean) for i, mean in enumerate(means)})
            self.epoch_losses = []

    def trained_weights(self) -> dict[str, Tensor]:
        """The weights to keep: the average where there is one."""
        model = self.average.module if self.average else self.supernet
        return model.state_dict()


class Schedule:
    """Learning rate by step: linear warm-up, then a cosine to zero (Loshchilov and Hutter 2017)."""

    def __init__(self, recipe: Recipe, steps_per_epoch: int) -> None:
        self.peak = recipe.lr
        self.warmup = recipe.warmup_epochs * steps_per_epoch
        self.total = recipe.epochs * steps_per_epoch

    def __call__(self, step: int) -> float:
        """The learning rate of step `step`, counted from 0."""
        if step < self.warmup:
            return self.peak * (step + 1) / (self.warmup + 1)
        done = (step - self.warmup) / max(1, self.total - self.warmup)
        return self.peak * 0.5 * (1 + math.cos(math.pi * done))


def make_fabric(recipe: Recipe) -> Fabric:
    """The devices and the precision that the recipe asks for.

    Raises:
        ValueError: this machine does not have them.
    """
    try:
        return Fabric(
            accelerator=recipe.accelerator,
            devices=recipe.devices,
            num_nodes=recipe.num_nodes,
            precision=recipe.precision,
        )
    except (RuntimeError, ValueError) as error:  # Fabric raises either, by the kind of accelerator
        reason = " ".join(str(error).split())
        raise ValueError(
            f"cannot train on accelerator {recipe.accelerator!r} with {recipe.devices} devices: {reason}"
        ) from None


def make_sampler(space: Space, recipe: Recipe) -> Sampler:
    """The sampler that the recipe names.

    Raises:
        ValueError: unknown name, or a user's object that makes no `Sampler`.
    """
    sampler = resolve("sampler", recipe.sampler, SAMPLERS)(space, recipe)
    check("sampler", recipe.sampler, sampler, Sampler)
    return sampler


def make_optimizer(supernet: Supernet, recipe: Recipe) -> torch.optim.SGD:
    """SGD with Nesterov momentum; weight decay on matrices and kernels alone."""
    parameters = list(supernet.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0)


def rng_of(seed: int, what: str, index: int) -> np.random.Generator:
    """The random generator of one step or epoch, equal in all processes; `what` keeps their streams apart."""
    return np.random.default_rng([seed, *what.encode(), index])


def _step(
    fabric: Fabric,
    state: TrainingState,
    subnets: Sequence[Arch],
    x: Tensor,
    y: Tensor,
    lr: float,
    recipe: Recipe,
) -> list[float]:
    """One optimiser step over all subnets of the step; their losses."""
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    state.optimizer.zero_grad()
    losses: list[Tensor] = []
    teacher: Tensor | None = None
    for arch in subnets:
        with fabric.autocast():
            logits = state.supernet(x, arch)
        if teacher is None:
            teacher = logits
            loss = label_loss(logits, y, recipe.label_smoothing)
        else:
            loss = distillation_loss(logits, teacher)
        fabric.backward(loss)
        losses.append(loss.detach())
    values: list[float] = torch.stack(losses).tolist()
    _average_gradients(fabric, state.supernet)
    norm = fabric.clip_gradients(
        state.supernet, state.optimizer, max_norm=recipe.clip_norm, error_if_nonfinite=False
    )
    assert norm is not None  # only None where values are clipped
    overflow = recipe.precision != "16-mixed" and not norm.isfinite()  # there the scaler skips such a step
    if overflow or not np.isfinite(values).all():
        raise ValueError(
            f"training diverged at step {state.step}: losses {values}, gradient norm {norm:.3g}; "
            f"lower `lr` ({recipe.lr}) or `clip_norm` ({recipe.clip_norm}) and start again"
        )
    state.optimizer.step()
    if state.average:
        state.average.update_parameters(state.supernet)
    return values


def _average_gradients(fabric: Fabric, supernet: Supernet) -> None:
    """Mean of the gradients over all processes: one all-reduce a step, however many subnets it had."""
    if fabric.world_size == 1:
        return
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in supernet.parameters()]
    flat = fabric.all_reduce(torch.cat([g.flatten() for g in gradients]), reduce_op="mean")
    assert isinstance(flat, Tensor)
    parts = flat.split([g.numel() for g in gradients])
    for parameter, part in zip(supernet.parameters(), parts, strict=True):
        parameter.grad = part.view_as(parameter)


def _batches(
    recipe: Recipe, space: Space, dataset: Dataset, fabric: Fabric, start: int, stop: int
) -> Iterator[Batch]:
    """Images and labels of the steps `start`..`stop`, this process's share of each batch."""
    steps_per_epoch = batches_per_epoch(dataset, recipe.batch_size)
    for epoch in range(start // steps_per_epoch, stop // steps_per_epoch):
        batches = train_batches(
            dataset,
            space.resolutions,
            recipe.batch_size,
            torch.Generator().manual_seed(int(rng_of(recipe.seed, "data", epoch).integers(2**62))),
            first=max(0, start - epoch * steps_per_epoch),
            rank=fabric.global_rank,
            ranks=fabric.world_size,
            workers=recipe.workers,
        )
        for x, y in batches:
            yield x.to(fabric.device, non_blocking=True), y.to(fabric.device, non_blocking=True)


def _open_run(recipe: Recipe, out: Path, space: Space, dataset: Dataset, *, resume: bool) -> RunDir:
    """Make the run directory, or check that the one to go on with was started by the same recipe."""
    if not (resume and RunDir(out).created):
        info = RunInfo(
            created=now(),
            versions=versions(),
            space=space.name,
            dataset=recipe.dataset,
            data_root=recipe.data_root,
            split_seed=recipe.split_seed,
            classes=list(dataset.class_names),
            seed=recipe.seed,
        )
        return RunDir.create(out, info, space, recipe.to_yaml())
    run = RunDir.open(out)
    began = parse_recipe(run.read_text(RECIPE), source=str(run.file(RECIPE)))
    changed = [k for k, v in recipe.model_dump().items() if getattr(began, k) != v]
    if changed or run.space().config != space.config:
        what = ", ".join(changed) or "the space's YAML file"
        raise ValueError(f"cannot resume {out}: {what} changed since it was started; use another --out")
    return run


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that SIGINT or SIGTERM sets, so that training stops between two steps; twice stops at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    old = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
