"""Mixtures of two images of a batch, with labels that are mixed alike."""

from __future__ import annotations

from torch import Tensor
from torchvision.transforms import v2

from nas.data.global_generator import seeded
from nas.data.loading import Batch


class Mix:
    """Mixup (Zhang et al. 2018) and cutmix (Yun et al. 2019), one of the two drawn for each batch.

    Args:
        classes: number of classes.
        mixup_alpha: parameter of the beta distribution of the shares; 0: no mixup.
        cutmix_alpha: parameter of the beta distribution of the areas; 0: no cutmix.
    """

    def __init__(self, classes: int, mixup_alpha: float, cutmix_alpha: float) -> None:
        self.ways = [
            way(alpha=alpha, num_classes=classes)
            for way, alpha in ((v2.MixUp, mixup_alpha), (v2.CutMix, cutmix_alpha))
            if alpha > 0
        ]

    def __call__(self, x: Tensor, labels: Tensor, seed: int) -> Batch:
        """Mix images, and return their labels as probabilities (n, classes); unchanged if both alphas are 0.

        Args:
            x: images (n, channels, size, size).
            labels: (n,) class indices.
            seed: seed of the choice between mixup and cutmix and of their parameters.
        """
        if not self.ways:
            return x, labels
        with seeded(seed):  # torchvision draws from the global generator
            mixed, shares = v2.RandomChoice(self.ways)(x, labels)
        return mixed, shares
