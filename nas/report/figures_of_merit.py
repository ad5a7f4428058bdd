"""The main figures of a run, computed from its results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hw_profiles.profile import DeviceProfile
from nas.report.data import FigureOfMerit
from nas.report.final_test import CHOSEN, LARGEST, ORIGINAL, RANDOM, SMALLEST, TRAINED, UNTRAINED
from nas.search.predictor_record import PredictorRecord
from nas.search.problem.hypervolume import hypervolume
from nas.tasks import Task


def quality_figures(test: pd.DataFrame, task: Task) -> list[FigureOfMerit]:
    """The headline metric on the test split for each group of subnets, as the median of the group."""
    headline = task.headline
    scale, unit = (100, "%") if headline.percent else (1, task.metrics[headline.metric].unit)
    values = scale * test.groupby("group")[headline.metric].median()
    n_random = (test["group"] == RANDOM).sum()
    names = {
        ORIGINAL: "original network",
        TRAINED: "the fine-tuned subnet",
        LARGEST: "largest subnet",
        RANDOM: f"median of {n_random} random subnets",
        SMALLEST: "smallest subnet",
        UNTRAINED: "smallest subnet before training",
    }
    return [
        (f"test {headline.label}, {names[group]}", float(values[group]), unit, "")
        for group in names
        if group in values
    ]


def predictor_figures(record: PredictorRecord) -> list[FigureOfMerit]:
    """Rank correlation of the predictor, and its ceiling; see `nas.search.predictor_record`."""
    correlations = {
        "predictor, Kendall tau in cross-validation": record.cross_validation,
        "predictor, Kendall tau before evaluation": record.before_evaluation,
        "predictor, ceiling of Kendall tau": record.ceiling,
    }
    return [(name, found.kendall_tau, "", "") for name, found in correlations.items() if found is not None]


def latency_figures(profile: DeviceProfile) -> list[FigureOfMerit]:
    """Errors of the latency table on held-out subnets, and the noise floor."""
    floor = math.nan if profile.noise_floor is None else 100 * profile.noise_floor
    return [
        ("latency table, MAPE", 100 * profile.held_out.mape, "%", ""),
        ("latency, MAPE of measuring again", floor, "%", ""),
        ("latency table, Kendall tau", profile.held_out.kendall_tau, "", ""),
    ]


def test_hypervolume(
    front: pd.DataFrame, test: pd.DataFrame, reference: Mapping[str, float], task: Task
) -> float:
    """Hypervolume of subnets in the primary metric on the test split and latency.

    A predicted latency is used where a subnet was not measured.

    Args:
        front: the subnets, selected on the validation split: `arch_id`, `latency_ms`, `measured_latency_ms`.
        test: metrics on the test split, the result of `final_test`.
        reference: primary objective and `latency_ms` of the reference point, fixed before the search.
        task: the task.
    """
    rows = front.merge(test[test["group"] == CHOSEN], on="arch_id", suffixes=("_validation", ""))
    latency_ms = rows["measured_latency_ms"].fillna(rows["latency_ms"])
    metric = task.primary.metric
    sign = -1 if task.metrics[metric].direction == "max" else 1
    points = np.column_stack([sign * rows[metric], latency_ms]).astype(np.float64)
    return hypervolume(points, np.array([sign * reference[task.primary_objective], reference["latency_ms"]]))


def hypervolume_figures(volumes: Mapping[str, float]) -> list[FigureOfMerit]:
    """Hypervolume of the search relative to random search; `volumes` has the search first.

    The list is empty without random search, or if random search found no subnet inside the reference point.
    """
    search, *others = volumes.values()
    return [
        ("test hypervolume, search / random search", search / random, "", "") for random in others if random
    ]


def certificate_figures(certificate: Mapping[str, Any]) -> list[FigureOfMerit]:
    """Share of the hypervolume of the additive surrogate's front that the search found."""
    share = certificate["found_share"]
    name = f"front found / {certificate['front']} front of the additive surrogate"
    return [] if share is None else [(name, share, "", "")]


def figure_rows(figures: list[FigureOfMerit]) -> list[dict[str, Any]]:
    """The figures as dictionaries; `met` says whether a figure meets its target."""
    return [
        {"figure": name, "value": round(value, 6), "unit": unit, "target": target, "met": met(value, target)}
        for name, value, unit, target in figures
    ]


def met(value: float, target: str) -> bool | None:
    """Whether `value` meets a target such as `>= 97`; None without a target, False for other texts."""
    sense, _, bound = target.partition(" ")
    try:
        limit = float(bound)
    except ValueError:
        return None if not target else False
    return {">=": value >= limit, ">": value > limit, "<=": value <= limit, "<": value < limit}[sense]
