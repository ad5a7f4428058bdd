"""Accelerator, precision and ranks."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from lightning_fabric import Fabric

from hw_profiles.measuring.runner.process_limits import usable_cores
from nas.recipes.groups import ComputeConfig
from nas.training.reductions import mean_over_processes, needs_all_processes

Result = TypeVar("Result")
MIN_IMAGES = 2
"""Smallest number of images in a part of a batch: one value per channel has no variance."""


def make_fabric(compute: ComputeConfig, batch_size: int) -> Fabric:
    """Create and launch a Fabric with the devices and the precision of a recipe.

    Under `torchrun` or `fabric run`, the launcher determines the number of processes and machines.

    Raises:
        ValueError: the devices are not available, or the batch size is not a multiple of their number.
    """
    devices, nodes = local_processes(compute), _nodes(compute)
    parts = devices * nodes * compute.accumulate
    if batch_size % parts:
        raise ValueError(
            f"data.batch_size must be a multiple of the number of processes times compute.accumulate, "
            f"{parts}, got {batch_size}"
        )
    try:
        with warnings.catch_warnings():  # `_check_precision` raises where Fabric replaces the precision
            warnings.filterwarnings("ignore", message=".*AMP with fp16 is not supported on CPU")
            fabric = Fabric(
                accelerator=compute.accelerator, devices=devices, num_nodes=nodes, precision=compute.precision
            )
    except (RuntimeError, ValueError) as error:  # the type depends on the accelerator
        reason = " ".join(str(error).split())
        raise ValueError(
            f"cannot train on accelerator {compute.accelerator!r} with {devices} devices: {reason}"
        ) from None
    _check_precision(compute.precision, fabric.device)
    if os.environ.get("LT_CLI_USED") != "1":  # `fabric run` has launched it already
        fabric.launch()
    return fabric


def _check_precision(precision: str, device: torch.device) -> None:
    """Check that the accelerator supports the precision, which Fabric would otherwise replace silently.

    Raises:
        ValueError: the accelerator does not support the precision.
    """
    if precision == "16-mixed" and device.type != "cuda":
        raise ValueError(
            f"precision 16-mixed needs the accelerator cuda, got {device.type}; "
            f"use precision bf16-mixed or 32-true"
        )
    if precision == "bf16-mixed" and device.type == "cuda" and not _has_bfloat16():
        raise ValueError(
            "precision bf16-mixed needs a GPU that supports bfloat16; use precision 16-mixed or 32-true"
        )


def _has_bfloat16() -> bool:
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def check_shares(compute: ComputeConfig, batch_size: int, n_images: int) -> None:
    """Check that all parts of a batch are large enough for the moments of batch norm.

    Args:
        compute: number of processes, and of parts per process.
        batch_size: number of images of a batch.
        n_images: number of training images, the maximum of a batch.

    Raises:
        ValueError: a part of a batch would have fewer than 2 images.
    """
    processes = local_processes(compute) * _nodes(compute)
    parts = processes * compute.accumulate
    needed = MIN_IMAGES * parts
    if batch_size < needed:
        raise ValueError(
            f"data.batch_size must be at least {needed}, {MIN_IMAGES} images for batch norm in each of "
            f"{processes} processes x {compute.accumulate} parts (compute.accumulate), got {batch_size}"
        )
    if n_images < needed:
        raise ValueError(
            f"training needs at least {needed} images, {MIN_IMAGES} for batch norm in each of {processes} "
            f"processes x {compute.accumulate} parts (compute.accumulate), got {n_images} in the training "
            f"split"
        )


def _nodes(compute: ComputeConfig) -> int:
    return int(os.environ.get("GROUP_WORLD_SIZE", compute.num_nodes))


def local_processes(compute: ComputeConfig) -> int:
    """Number of training processes on this machine; a launcher such as `torchrun` overrides the recipe."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", compute.devices))


def default_threads(processes: int) -> int:
    """Number of CPU threads per process: the default of torch, at most an equal share of the usable cores.

    The default of torch respects the CPU affinity of the process but not the CPU quota of its container.

    Args:
        processes: number of training processes on this machine.
    """
    return max(1, min(torch.get_num_threads(), usable_cores() // processes))


def is_rank_zero() -> bool:
    """Whether this rank is the one that writes and prints."""
    return not dist.is_initialized() or dist.get_rank() == 0


def on_rank_zero(fabric: Fabric, work: Callable[[], Result]) -> Result:
    """Call `work` on rank 0; all ranks get its result, or its `ValueError` or `OSError`.

    Raises:
        ValueError: `work` raised a `ValueError` or `OSError` on rank 0.
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


def any_rank(fabric: Fabric, flag: bool) -> bool:
    """Whether `flag` is set on any rank; all ranks must call this.

    Raises:
        ConnectionError: another process has ended.
    """
    return bool(mean_over_processes(torch.tensor(float(flag), device=fabric.device)) > 0)
