"""The task of classification."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.tasks.base import Quantity, Task
from nas.tasks.classification.losses import DISTILLATION_LOSSES, label_loss
from nas.tasks.classification.metrics import METRICS


class Classification(Task):
    """One class for each image.

    Outputs are logits (n, classes). Targets are class indices (n,), or probabilities (n, classes) where
    images are mixed.

    Cross-entropy is the primary metric: accuracy has too few distinct values on small validation splits to
    order subnets by.
    """

    metrics = METRICS
    primary = Quantity("cross_entropy", "cross-entropy", "cross-entropy, nats")
    headline = Quantity("top1", "top-1", "top-1 accuracy", percent=True, noticeable=0.01)
    distillation_losses = DISTILLATION_LOSSES
    label_smoothing = 0.1

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
        """See `Task`: share of the labels that are the largest logit; NaN where labels are mixed."""
        if targets.ndim > 1:
            return outputs.new_tensor(torch.nan)
        return (outputs.argmax(dim=1) == targets).float().mean()
