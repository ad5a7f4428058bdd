"""Devices, precision and processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from lightning_fabric import Fabric

from hw_profiles.usable_cores import usable_cores
from nas.recipes.recipe import Recipe
from nas.training.reductions import mean_over_processes, needs_all_processes

Result = TypeVar("Result")


def make_fabric(recipe: Recipe) -> Fabric:
    """The devices and the precision that the recipe asks for, with all processes running.

    Under `torchrun` or `fabric run`, the launcher decides how many processes and machines there are.

    Raises:
        ValueError: this machine does not have them, or they cannot share the batches evenly.
    """
    devices = local_processes(recipe)
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", recipe.num_nodes))
    parts = devices * nodes * recipe.accumulate
    if recipe.batch_size % parts:
        raise ValueError(
            f"batch_size must be a multiple of the number of processes times accumulate, {parts}, "
            f"got {recipe.batch_size}"
        )
    try:
        fabric = Fabric(
            accelerator=recipe.accelerator, devices=devices, num_nodes=nodes, precision=recipe.precision
        )
    except (RuntimeError, ValueError) as error:  # Fabric raises either, by the kind of accelerator
        reason = " ".join(str(error).split())
        raise ValueError(
            f"cannot train on accelerator {recipe.accelerator!r} with {devices} devices: {reason}"
        ) from None
    if os.environ.get("LT_CLI_USED") != "1":  # `fabric run` has launched it and allows no second time
        fabric.launch()
    return fabric


def local_processes(recipe: Recipe) -> int:
    """Processes of the training on this machine; a launcher such as `torchrun` overrides the recipe."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", recipe.devices))


def default_threads(processes: int) -> int:
    """CPU threads of each of `processes` on this machine: torch's default, or a share of the usable cores.

    torch respects the affinity of the process but not the CPU quota of its container.
    """
    return max(1, min(torch.get_num_threads(), usable_cores() // processes))


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return not dist.is_initialized() or dist.get_rank() == 0


def first_does(fabric: Fabric, work: Callable[[], Result]) -> Result:
    """Do `work` in the first process alone; all processes get its result, or the error that a user caused.

    Raises:
        ValueError: as `work` does.
        ConnectionError: another process has ended.
    """
    if fabric.world_size == 1:
        return work()
    answer: tuple[Result | None, str | None] = (None, None)
    if fabric.is_global_zero:
        try:
            answer = work(), None
        except (ValueError, OSError) as error:
            answer = None, str(error)
    with needs_all_processes():
        result, reason = fabric.broadcast(answer)
    if reason is not None:
        raise ValueError(reason)
    return cast(Result, result)


def any_process(fabric: Fabric, flag: bool) -> bool:
    """Whether `flag` is set in any process; all of them must ask.

    Raises:
        ConnectionError: another process has ended.
    """
    return bool(mean_over_processes(torch.tensor(float(flag), device=fabric.device)) > 0)
