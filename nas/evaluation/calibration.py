"""BN recalibration: a subnet's own running statistics, from training images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas.data.batches import MIN_CALIBRATION_IMAGES, calibration_batches
from nas.data.dataset import Dataset
from nas.data.loading import Batch
from nas.tasks import Task


@dataclass(frozen=True, slots=True)
class Method:
    """How recalibration is done: which training images it reads, and which variance it keeps."""

    images: int
    batch_size: int
    unbiased: bool
    """Divide a batch's sum of squares by n - 1 (as torch does) instead of n."""
    augmented: bool
    """Read images through the data set's training augmentation instead of clean."""


DEFAULT = "default"
METHODS: Mapping[str, Method] = {
    # clean images: augmented ones cost 4 to 10 points of accuracy on digits, and the ranking
    DEFAULT: Method(images=512, batch_size=256, unbiased=True, augmented=False),
    "ofa": Method(images=2_000, batch_size=200, unbiased=False, augmented=True),
    "attentivenas": Method(images=16_384, batch_size=256, unbiased=True, augmented=True),
    "alphanet": Method(images=8_192, batch_size=256, unbiased=True, augmented=True),
}
"""Ours and those of the published tools: OFA (Cai et al. 2020), AttentiveNAS and the search of AlphaNet (Wang
et al. 2021; there the augmentation is AutoAugment)."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A method and its images, drawn by seed."""

    images: int | None = None
    """Training images, all where there are fewer; None: as many as the method says."""
    seed: int = 0
    method: str = DEFAULT

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"calibration must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self._n_images < MIN_CALIBRATION_IMAGES:
            raise ValueError(
                f"calibration images must be >= {MIN_CALIBRATION_IMAGES}, got {self.images}: "
                f"one image has no variance"
            )

    @property
    def key(self) -> str:
        """Name of the calibration in the archive."""
        return f"{self.method}:{self._n_images}:seed{self.seed}"

    @property
    def _n_images(self) -> int:
        return METHODS[self.method].images if self.images is None else self.images

    def __call__(self, net: nn.Module, dataset: Dataset, task: Task, size: int) -> None:
        """Recalibrate a static network, in place, with images of this size in pixels."""
        method = METHODS[self.method]
        batches = calibration_batches(
            dataset,
            task.strata(dataset.split("train").targets),
            self._n_images,
            size,
            method.batch_size,
            self.seed,
            augmented=method.augmented,
        )
        recalibrate(net, batches, unbiased=method.unbiased)


@torch.no_grad()
def recalibrate(net: nn.Module, batches: Iterable[Batch], *, unbiased: bool = True) -> None:
    """Give every batch norm the mean and variance that it sees on `batches`, in place.

    Subnets share weights but not statistics, so an inherited subnet is worthless without this (Yu and Huang
    2019, §3.3). The statistics are means over the batches, weighted by their images; every layer normalises
    with its own batch's moments meanwhile.

    Args:
        net: a static network; it is left in eval mode, with the momentum that its batch norms had.
        batches: images and targets; only the images are used.
        unbiased: which variance of a batch counts, see `Method`.
    """
    sums: dict[nn.BatchNorm2d, Tensor] = {}

    def add_moments(norm: nn.BatchNorm2d, inputs: tuple[Tensor], _: Tensor) -> None:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        n = inputs[0].numel() / inputs[0].shape[1]
        var = norm.running_var * (1 if unbiased else (n - 1) / n)
        sums[norm] = sums.get(norm, 0) + len(inputs[0]) * torch.stack([norm.running_mean, var])

    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    hooks = [norm.register_forward_hook(add_moments) for norm in norms]
    n_images = 0
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = 1.0  # the running statistics are those of the last batch
        net.train()
        for x, _ in batches:
            net(x)
            n_images += len(x)
    finally:
        net.eval()
        for norm, momentum, hook in zip(norms, momenta, hooks, strict=True):
            norm.momentum = momentum
            hook.remove()
    for norm in norms:
        mean, var = sums[norm] / n_images  # copied: torch.export cannot store views of one tensor
        norm.load_state_dict({"running_mean": mean, "running_var": var}, strict=False)
