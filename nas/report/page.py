"""The page of a report."""

from __future__ import annotations

from nas.report.data import ReportData
from nas.report.markup import join, page
from nas.report.sections.chosen import chosen_subnets, pictures
from nas.report.sections.device import device, noise
from nas.report.sections.front import pareto_front
from nas.report.sections.predictions import predictions
from nas.report.sections.reproduce import commands
from nas.report.sections.summary import figures_of_merit, headline, training


def write_report(data: ReportData) -> str:
    """The report of a run as the text of a self-contained HTML file. Equal data give equal text.

    Raises:
        ValueError: a table has an arch that is not in the space.
    """
    if data.run.arch:  # there is nothing to search
        parts = [
            headline(data),
            chosen_subnets(data),
            *figures_of_merit(data),
            pictures(data),
            training(data),
            commands(data),
        ]
    else:
        parts = [
            headline(data),
            *noise(data),
            chosen_subnets(data),
            pareto_front(data),
            *figures_of_merit(data),
            predictions(data),
            pictures(data),
            training(data),
            device(data),
            commands(data),
        ]
    return page(f"Space {data.space.name} on {data.run.dataset}", join(parts))
