"""The headline, the main figures and the training curves."""

from __future__ import annotations

from nas.report import figures
from nas.report.data import ReportData
from nas.report.markup import Html, cards, missing, number, plot, power_of_ten, section, table
from nas.report.sections.commands import TRAIN


def headline(data: ReportData) -> Html:
    """The space, the data set, the device and the number of evaluated subnets."""
    evaluated = 0
    if data.evaluations is not None and len(data.evaluations):
        evaluated = data.evaluations["arch_id"].nunique()
    device = data.profile["name"] if data.profile else "not profiled"
    return cards(
        [
            ("space", data.space.name),
            ("data set", data.run.dataset),
            ("device", device),
            ("created", data.run.created[:16].replace("T", " ") + " UTC"),
            ("subnets in the space", power_of_ten(data.space.n_subnets)),
            ("subnets evaluated", f"{evaluated:,}"),
        ]
    )


def figures_of_merit(data: ReportData) -> list[Html]:
    """The main figures, with their targets if there are any."""
    if not data.figures:
        return []
    header = ["figure", "value", "target"]
    rows = [
        [name, f"{number(value, 4)} {unit}".strip(), target] for name, value, unit, target in data.figures
    ]
    if not any(target for *_, target in rows):
        header, rows = header[:2], [row[:2] for row in rows]
    return [section("Figures", table(header, rows))]


def training(data: ReportData) -> Html:
    """Training curves."""
    if data.training is None or data.training.empty:
        return section("Training", missing("finished epoch", TRAIN))
    caption = (
        "Mean losses of the largest, the smallest and all other trained subnets. With in-place distillation, "
        "the first subnet of a step learns from the labels, the others from its outputs."
    )
    return section("Training", plot(figures.training(data.training), caption))
