"""Losses of classification."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.tasks.base import DistillationLoss


def label_loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy with smoothed labels, mean over the batch.

    Args:
        logits: (n, classes).
        labels: (n,) class indices, or (n, classes) probabilities if images are mixed.
        smoothing: share of the target spread over all classes (Szegedy et al. 2016, §7).
    """
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def kl_loss(logits: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy to the teacher's output, mean over the batch (in-place distillation, BigNAS §3.1).

    It differs from the Kullback-Leibler divergence only by the teacher's entropy, which has no gradient.

    Args:
        logits: (n, classes).
        teacher: (n, classes), probabilities for the same images; no gradient flows into them.
    """
    return F.cross_entropy(logits, teacher.detach())


def adaptive_alpha_loss(
    logits: Tensor, teacher: Tensor, alphas: tuple[float, float] = (-1.0, 1.0), clip: float = 5.0
) -> Tensor:
    """Adaptive alpha-divergence from the teacher, mean over the batch (AlphaNet, Wang et al. 2021, §3).

    For each image, the larger of two divergences is used. With alpha 1 (Kullback-Leibler), the loss penalizes
    classes whose probability the student underestimates, with alpha -1 classes whose probability it
    overestimates. The value is the divergence; the gradient is the one of AlphaNet, in which the ratio of
    probabilities is clipped. Everything is computed in float32.

    Args:
        logits: (n, classes).
        teacher: (n, classes), probabilities for the same images; no gradient flows into them.
        alphas: alpha of each of the two divergences; neither may be 0.
        clip: upper limit of the power of the ratio of probabilities, if alpha is not 1.
    """
    log_student = logits.float().log_softmax(dim=1)
    log_teacher = teacher.detach().float().clamp_min(torch.finfo(torch.float32).tiny).log()
    pairs = [_alpha_divergence(log_student, log_teacher, alpha, clip) for alpha in alphas]
    values, surrogates = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    value, larger = values.max(dim=0)
    surrogate = surrogates.gather(0, larger[None])[0]
    return (value + surrogate - surrogate.detach()).mean()


def _alpha_divergence(
    log_student: Tensor, log_teacher: Tensor, alpha: float, clip: float
) -> tuple[Tensor, Tensor]:
    """The divergence of each image, without gradient, and a surrogate with its gradient; each (n,)."""
    log_q = log_student.detach()
    if alpha == 1:
        teacher = log_teacher.exp()
        return (teacher * (log_teacher - log_q)).sum(1), -(teacher * log_student).sum(1)
    power = (alpha * (log_teacher - log_q)).clamp_max(math.log(clip)).exp()
    constant = 1 / (alpha * (alpha - 1))
    value = constant * (log_q.exp() * (power - 1)).sum(1)
    return value, -(log_q.exp() * (power / alpha + constant) * log_student).sum(1)


DISTILLATION_LOSSES: Mapping[str, DistillationLoss] = {"kl": kl_loss, "alpha": adaptive_alpha_loss}
"""Distillation losses by name, called with logits and the teacher's probabilities, both (n, classes)."""
