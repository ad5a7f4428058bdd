"""Whole pages."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from nas.report import sections
from nas.report.data import ReportData
from nas.report.figures import pareto
from nas.report.markup import Html, join, page, plot, section
from search_spaces import Space


def write_report(data: ReportData) -> str:
    """The report of a run as the text of one HTML file that loads nothing from elsewhere.

    Equal data give equal text.

    Raises:
        ValueError: a table holds an arch that is not in the space.
    """
    parts = [
        sections.headline(data),
        *sections.noise(data),
        sections.chosen_subnets(data),
        sections.pareto_front(data),
        *sections.figures_of_merit(data),
        sections.predictions(data),
        sections.pictures(data),
        sections.training(data),
        sections.device(data),
        sections.commands(data),
    ]
    if data.run.arch:  # there is nothing to search
        parts = [
            sections.headline(data),
            sections.chosen_subnets(data),
            *sections.figures_of_merit(data),
            sections.pictures(data),
            sections.training(data),
            sections.commands(data),
        ]
    body = join(parts)
    return page(f"Space {data.space.name} on {data.run.dataset}", body)


def front_plot(
    space: Space,
    front: pd.DataFrame | None,
    evaluations: pd.DataFrame | None,
    baseline: pd.DataFrame | None = None,
    reference_point: Mapping[str, float] | None = None,
) -> str:
    """The Pareto plot alone, as a page like the report's.

    Args:
        space: the space of the subnets.
        front: as in `ReportData`.
        evaluations: as in `ReportData`.
        baseline: as in `ReportData`.
        reference_point: as in `ReportData`.

    Raises:
        ValueError: a table holds an arch that is not in the space.
    """
    views: Html = plot(pareto(space, front, evaluations, baseline, reference_point or {}))
    return page(f"Pareto front of {space.name}", section("Pareto front", views))
