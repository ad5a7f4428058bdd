"""What the subnets of a step learn from."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def label_loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy with smoothed labels, mean over the batch.

    Args:
        logits: (n, classes).
        labels: (n,) class indices.
        smoothing: share of the target spread over all classes (Szegedy et al. 2016, §7).
    """
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def distillation_loss(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy to the teacher's softmax, mean over the batch (in-place distillation, BigNAS §3.1).

    Args:
        logits: (n, classes).
        teacher_logits: (n, classes), of the same images; no gradient flows into them.
    """
    return F.cross_entropy(logits, teacher_logits.detach().softmax(dim=1))
