"""The task of classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nas.data.augment import AUGMENTATIONS
from nas.data.dataset import Dataset, ImageOnly, SplitName
from nas.tasks.base import Mixer, Quantity, Task
from nas.tasks.classification.losses import DISTILLATION_LOSSES, label_loss
from nas.tasks.classification.metrics import METRICS
from nas.tasks.classification.mix import Mix


class Classification(Task):
    """One class for each image.

    Outputs are logits (n, classes). Targets are class indices (n,), or probabilities (n, classes) if images
    are mixed.

    Cross-entropy is the primary metric, because accuracy has too few distinct values on small validation
    splits to rank subnets.
    """

    metrics = METRICS
    primary = Quantity("cross_entropy", "cross-entropy", "cross-entropy, nats")
    headline = Quantity("top1", "top-1", "top-1 accuracy", percent=True, noticeable=0.01)
    distillation_losses = DISTILLATION_LOSSES
    label_smoothing = 0.1
    augmentations = MappingProxyType({name: ImageOnly(augment) for name, augment in AUGMENTATIONS.items()})

    @property
    def objectives(self) -> Mapping[str, str]:
        """See `Task`."""
        return {"cross_entropy": "cross_entropy", "accuracy": "top1"}

    def check(self, name: str, dataset: Dataset) -> None:
        """See `Task`."""
        n, what = len(dataset.output_names), f"the data set {name!r}"
        if n < 2:
            raise ValueError(f"{what} must have at least two classes as `output_names`, got {n}")
        for split in get_args(SplitName):
            labels = dataset.split(split).targets
            if labels.ndim != 1 or labels.dtype.kind != "i":
                raise ValueError(
                    f"{what}, split {split!r} must have integers of shape (n,) as labels, got {labels.dtype} "
                    f"of shape {labels.shape}"
                )
            wrong = np.flatnonzero((labels < 0) | (labels >= n))
            if len(wrong):
                raise ValueError(
                    f"{what}, split {split!r} must have labels from 0 to {n - 1}, one for each class; image "
                    f"{wrong[0]} has {labels[wrong[0]]}"
                )

    def describe(self, output_names: Sequence[str]) -> str:
        """See `Task`."""
        return f"{len(output_names)} classes"

    def strata(self, targets: NDArray[Any]) -> NDArray[np.int64]:
        """See `Task`: the classes."""
        return targets

    def mixer(self, n_outputs: int, mixup_alpha: float, cutmix_alpha: float) -> Mixer | None:
        """See `Task`."""
        return Mix(n_outputs, mixup_alpha, cutmix_alpha)

    def card(self, dataset: Dataset) -> dict[str, Any]:
        """See `Task`."""
        return {"class_names": list(dataset.output_names)}

    def loss(self, outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """See `Task`: cross-entropy, with a share `smoothing` of the target spread over all classes."""
        return label_loss(outputs, targets, smoothing)

    def teacher_signal(self, outputs: Tensor) -> Tensor:
        """See `Task`: probabilities."""
        return outputs.softmax(dim=1)

    def errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See `Task`: the gradient of the cross-entropy is softmax - target."""
        shares = targets if targets.ndim == 2 else F.one_hot(targets, outputs.shape[1])
        norms: Tensor = (outputs.softmax(dim=1) - shares).norm(dim=1)
        return norms

    def training_metric(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See `Task`: top-1 accuracy, a fraction; NaN if labels are mixed."""
        if targets.ndim > 1:
            return outputs.new_tensor(torch.nan)
        return (outputs.argmax(dim=1) == targets).float().mean()
