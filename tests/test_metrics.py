"""Metrics against their definitions and scikit-learn's."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score
from torch import Tensor

from nas.tasks import metrics
from nas.tasks.classification.metrics import METRICS
from nas.tasks.metrics import Accumulators, SplitMetric


def case(n: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((n, classes), generator=generator)
    return logits, torch.randint(classes, (n,), generator=generator)


def values_of(logits: Tensor, labels: Tensor, batch: int = 7) -> dict[str, float]:
    """All metrics, computed over batches."""
    accumulators = Accumulators(METRICS, "the network")
    for part in zip(logits.split(batch), labels.split(batch), strict=True):
        accumulators.update(*part)
    return accumulators.results()


@given(st.integers(1, 60), st.integers(2, 12), st.integers(0, 1000))
def test_values_are_those_of_the_definitions_also_where_classes_are_absent(
    n: int, classes: int, seed: int
) -> None:
    logits, labels = case(n, classes, seed)
    predictions = logits.argmax(1)
    recalls = [(predictions[labels == c] == c).double().mean().item() for c in range(classes) if c in labels]
    values, whole = values_of(logits, labels), values_of(logits, labels, n)

    assert values.pop("cross_entropy") == pytest.approx(whole.pop("cross_entropy"))
    assert values == whole  # counts, which no order of addition changes

    assert values["top1"] == pytest.approx(np.mean((predictions == labels).numpy()))
    assert values["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert values["macro_f1"] == pytest.approx(f1_score(labels, predictions, average="macro"))
    probabilities = torch.softmax(logits.double(), 1)[torch.arange(n), labels]
    assert values_of(logits, labels)["cross_entropy"] == pytest.approx(-probabilities.log().mean().item())


def test_balanced_accuracy_is_that_of_scikit_learn() -> None:
    logits, labels = case(500, 6, seed=0)
    expected = balanced_accuracy_score(labels, logits.argmax(1))
    assert values_of(logits, labels)["balanced_accuracy"] == pytest.approx(expected)


def test_perfect_and_ignorant_logits() -> None:
    labels = torch.arange(10) % 5
    perfect, ignorant = 1000.0 * torch.eye(5)[labels], torch.zeros(10, 5)
    for name, value in values_of(perfect, labels).items():
        assert value == (0.0 if name == "cross_entropy" else 1.0)
    assert values_of(ignorant, labels)["cross_entropy"] == pytest.approx(math.log(5))


def test_direction_tells_perfect_from_wrong() -> None:
    labels = torch.arange(10) % 5
    perfect, wrong = 10.0 * torch.eye(5)[labels], 10.0 * torch.eye(5)[(labels + 1) % 5]
    good, bad = values_of(perfect, labels), values_of(wrong, labels)
    for name, metric in METRICS.items():
        assert good[name] > bad[name] if metric.direction == "max" else good[name] < bad[name]


def test_a_split_metric_sees_all_batches_at_once() -> None:
    outputs, targets = torch.randn(9, 2, 3), torch.arange(9)
    metric = SplitMetric("own", "max", "", lambda x, y: torch.equal(x, outputs) and torch.equal(y, targets))
    accumulators = Accumulators({"own": metric}, "the network")
    for part in zip(outputs.split(4), targets.split(4), strict=True):
        accumulators.update(*part)
    assert accumulators.results() == {"own": 1.0}


def test_names_are_the_keys_of_the_table() -> None:
    assert [metric.name for metric in METRICS.values()] == list(METRICS)
    assert metrics.get("top1", METRICS) is METRICS["top1"]


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"one of \['balanced_accuracy', .*'top1'\] or module:object, got 'f1'"
    ):
        metrics.get("f1", METRICS)
