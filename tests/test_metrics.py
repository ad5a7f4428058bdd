"""Metrics against their definitions and scikit-learn's."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score
from torch import Tensor

from nas.evaluation import metrics
from nas.evaluation.metrics import METRICS


def case(n: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((n, classes), generator=generator)
    return logits, torch.randint(classes, (n,), generator=generator)


@given(st.integers(1, 60), st.integers(2, 12), st.integers(0, 1000))
def test_values_are_those_of_the_definitions_also_where_classes_are_absent(
    n: int, classes: int, seed: int
) -> None:
    logits, labels = case(n, classes, seed)
    predictions = logits.argmax(1)
    recalls = [(predictions[labels == c] == c).double().mean().item() for c in range(classes) if c in labels]
    values = {name: metric(logits, labels) for name, metric in METRICS.items()}

    assert values["top1"] == pytest.approx(np.mean((predictions == labels).numpy()))
    assert values["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert values["macro_f1"] == pytest.approx(f1_score(labels, predictions, average="macro"))
    probabilities = torch.softmax(logits.double(), 1)[torch.arange(n), labels]
    assert values["cross_entropy"] == pytest.approx(-probabilities.log().mean().item())


def test_balanced_accuracy_is_that_of_scikit_learn() -> None:
    logits, labels = case(500, 6, seed=0)
    expected = balanced_accuracy_score(labels, logits.argmax(1))
    assert METRICS["balanced_accuracy"](logits, labels) == pytest.approx(expected)


def test_perfect_and_ignorant_logits() -> None:
    labels = torch.arange(10) % 5
    perfect, ignorant = 1000.0 * torch.eye(5)[labels], torch.zeros(10, 5)
    for name, metric in METRICS.items():
        assert metric(perfect, labels) == (0.0 if name == "cross_entropy" else 1.0)
    assert METRICS["cross_entropy"](ignorant, labels) == pytest.approx(math.log(5))


def test_direction_tells_perfect_from_wrong() -> None:
    labels = torch.arange(10) % 5
    perfect, wrong = 10.0 * torch.eye(5)[labels], 10.0 * torch.eye(5)[(labels + 1) % 5]
    for metric in METRICS.values():
        gain = metric(perfect, labels) - metric(wrong, labels)
        assert gain > 0 if metric.direction == "max" else gain < 0


def test_names_are_the_keys_of_the_table() -> None:
    assert [metric.name for metric in METRICS.values()] == list(METRICS)
    assert metrics.get("top1") is METRICS["top1"]


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"one of \['balanced_accuracy', .*'top1'\] or module:object, got 'f1'"
    ):
        metrics.get("f1")
