"""The page of a report."""

from __future__ import annotations

from nas.report import sections
from nas.report.data import ReportData
from nas.report.markup import join, page


def write_report(data: ReportData) -> str:
    """The report of a run as the text of a self-contained HTML file. Equal data give equal text.

    Raises:
        ValueError: a table has an arch that is not in the space.
    """
    if data.run.arch:  # there is nothing to search
        parts = [
            sections.headline(data),
            sections.chosen_subnets(data),
            *sections.figures_of_merit(data),
            sections.pictures(data),
            sections.training(data),
            sections.commands(data),
        ]
    else:
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
    return page(f"Space {data.space.name} on {data.run.dataset}", join(parts))
