"""BN recalibration: running statistics of a subnet from training images."""

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
    """A method of recalibration: the training images and the definition of the variance."""

    images: int
    batch_size: int
    unbiased: bool
    """Divide a batch's sum of squares by n - 1 (as torch does) instead of n."""
    augmented: bool
    """Use the training augmentation of the data set."""


DEFAULT = "default"
METHODS: Mapping[str, Method] = {
    # on digits, augmented images cost 4 to 10 points of accuracy and worsen the ranking
    DEFAULT: Method(images=512, batch_size=256, unbiased=True, augmented=False),
    "ofa": Method(images=2_000, batch_size=200, unbiased=False, augmented=True),
    "attentivenas": Method(images=16_384, batch_size=256, unbiased=True, augmented=True),
    "alphanet": Method(images=8_192, batch_size=256, unbiased=True, augmented=True),
}
"""The default and the methods of published tools: OFA (Cai et al. 2020), AttentiveNAS and the search of
AlphaNet (Wang et al. 2021, with AutoAugment as augmentation)."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A method of recalibration with its number of images and its seed."""

    images: int | None = None
    """Number of training images, or all if there are fewer; None: that of the method."""
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
        """Text that identifies the calibration in the archive."""
        return f"{self.method}:{self._n_images}:seed{self.seed}"

    @property
    def _n_images(self) -> int:
        return METHODS[self.method].images if self.images is None else self.images

    def __call__(self, net: nn.Module, dataset: Dataset, task: Task, size: int) -> None:
        """Recalibrate a static network in place, with images of this size in pixels."""
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
    """Set the running mean and variance of every batch norm from `batches`, in place.

    Subnets share weights but not statistics, so subnets with inherited weights need this (Yu and Huang 2019,
    §3.3). The statistics are means over the batches, weighted by their numbers of images. During the
    recalibration, layers normalize with the moments of the current batch.

    Args:
        net: a static network; afterwards it is in eval mode, with the momentum of its batch norms unchanged.
        batches: images and targets; only the images are used.
        unbiased: whether the variance of a batch is unbiased, see `Method`.
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
