"""The Pareto front and its comparison with other methods and models."""

from __future__ import annotations

from nas.report import figures
from nas.report.comparison import best_within
from nas.report.data import ReportData
from nas.report.markup import (
    DASH,
    Html,
    escape,
    formatted,
    missing,
    number,
    paragraph,
    plot,
    section,
    table,
)
from nas.report.sections.commands import EVALUATE, SEARCH


def pareto_front(data: ReportData) -> Html:
    """The plot of metrics over cost, and the hypervolumes."""
    if data.front is None and (data.evaluations is None or data.evaluations.empty):
        return section("Pareto front", missing("evaluated subnets", EVALUATE))
    views = figures.pareto(
        data.space,
        data.task,
        data.front,
        data.evaluations,
        data.baseline,
        data.reference_point,
        data.comparison,
    )
    caption = "On the validation split. Hover over a point for its arch: resolution · stem | stages | head."
    return section("Pareto front", plot(views, caption), *_hypervolumes(data), *_compared(data))


def _hypervolumes(data: ReportData) -> list[Html]:
    if data.front is None:
        return [missing("search", SEARCH)]
    if not data.hypervolume:
        return []
    search = next(iter(data.hypervolume.values()))
    rows = [
        (name, number(value, 4), f"{search / value:.3f}" if i and value else "")
        for i, (name, value) in enumerate(data.hypervolume.items())
    ]
    if len(rows) == 1:
        return [table(("method", "hypervolume"), [row[:2] for row in rows])]
    return [table(("method, with an equal number of evaluations", "hypervolume", "search / method"), rows)]


def _compared(data: ReportData) -> list[Html]:
    """The other models, each next to the most accurate subnet of the front that is not slower."""
    if data.comparison is None or data.front is None or data.test is None:
        return []
    front = data.front[["arch_id", "latency_ms", "measured_latency_ms"]].merge(
        data.test.drop_duplicates("arch_id", keep="last"), on="arch_id"
    )
    front["latency_ms"] = front["measured_latency_ms"].fillna(front["latency_ms"])
    quantity = data.task.headline
    rows = []
    for _, model in data.comparison.sort_values("latency_ms").iterrows():
        cells = [model["model"], number(model["latency_ms"]), formatted(quantity, model["accuracy"])]
        subnet = best_within(front, quantity.metric, model["latency_ms"])
        if subnet is None:
            cells += [DASH, DASH, DASH]
        else:
            name = Html(f"<code>{escape(subnet['arch_id'])}</code>")
            cells += [name, number(subnet["latency_ms"]), formatted(quantity, subnet[quantity.metric])]
        rows.append(cells)
    best = "most accurate subnet that is not slower"
    header = ("other model", "ms", "accuracy", best, "ms", f"{quantity.label}, test")
    note = paragraph("Other models: latencies and accuracies are taken from the file given with --compare.")
    return [note, table(header, rows)]
