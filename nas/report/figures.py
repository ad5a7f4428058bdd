"""The plots of a report as plotly figures; the template sets the colors that depend on the theme."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from nas.report.drawing import compact
from nas.report.markup import count, escape, formatted, number
from nas.search.algorithms.prediction_log import BEFORE_EVALUATION, CROSS_VALIDATION
from nas.tasks import Task
from nas.tasks.base import Quantity
from search_spaces import Space

SEARCH, OTHERS, FAINT = "#5b5bd6", "#e08c1a", "rgba(130,140,160,0.45)"
CORNER, REFERENCE = "#12a594", "#e5484d"
NO_BREAK = "\N{NO-BREAK SPACE}"
COST = {"latency_ms": "predicted latency, ms", "macs": "MACs"}
"""Columns for the x axis of Pareto plots with their axis titles, in order of preference."""


def pareto(
    space: Space,
    task: Task,
    front: pd.DataFrame | None,
    evaluations: pd.DataFrame | None,
    baseline: pd.DataFrame | None,
    reference_point: Mapping[str, float],
    comparison: pd.DataFrame | None = None,
) -> dict[str, go.Figure]:
    """Plots of metrics over cost for all subnets, one figure per metric; arguments as in `ReportData`."""
    evaluated = _on_validation(evaluations)
    tables = [table for table in (front, baseline, evaluated) if table is not None and len(table)]
    cost = next((name for name in COST if any(t.get(name, _NONE).notna().any() for t in tables)), "macs")
    views = {}
    for quantity in task.quantities:
        metric = quantity.metric
        figure = _figure(COST[cost], quantity.axis)
        _points(figure, space, task, evaluated, "evaluated", cost, metric, {"color": FAINT, "size": 6})
        _front(figure, space, task, baseline, "random search", cost, metric, OTHERS)
        _corners(figure, space, task, evaluated, cost, metric)
        _front(figure, space, task, front, "search", cost, metric, SEARCH)
        if cost in reference_point and metric in reference_point:
            marker = {"symbol": "x", "size": 10, "color": REFERENCE}
            x, y = [reference_point[cost]], [reference_point[metric]]
            figure.add_scatter(x=x, y=y, mode="markers", name="reference point", marker=marker)
        if comparison is not None and (cost, quantity) == ("latency_ms", task.headline):
            _compared(figure, comparison)
        if quantity.percent:
            figure.update_yaxes(tickformat=".1%")
        views[quantity.label] = figure
    return views


def latency(held_out: pd.DataFrame | None, front: pd.DataFrame | None) -> dict[str, go.Figure]:
    """Predicted over measured latency, and the relative error; arguments as in `ReportData`."""
    against = _figure("measured latency, ms", "predicted latency, ms")
    error = _figure("measured latency, ms", "predicted / measured - 1")
    error.update_yaxes(tickformat="+.1%")
    measured = [_measured(held_out, "predicted_latency_ms"), _measured(front, "latency_ms")]
    _diagonal(against, [values for pair in measured for values in pair])
    for (x, y), name, color in zip(measured, ("held-out", "front"), (SEARCH, OTHERS), strict=True):
        if len(x):
            marker = {"color": color, "size": 8, "opacity": 0.85}
            against.add_scatter(x=x, y=y, mode="markers", name=name, marker=marker)
            error.add_scatter(x=x, y=y / x - 1, mode="markers", name=name, marker=marker)
    return {"ms": against, "relative error": error}


def predictor(predictions: pd.DataFrame, quantity: Quantity) -> dict[str, go.Figure]:
    """Predicted over evaluated values of a metric; arguments as in `ReportData`."""
    figure = _figure(f"evaluated {quantity.axis}", f"predicted {quantity.axis}")
    _diagonal(figure, [predictions[name].to_numpy() for name in ("evaluated", "predicted")])
    for kind, color in {CROSS_VALIDATION: SEARCH, BEFORE_EVALUATION: OTHERS}.items():
        rows = predictions[predictions["kind"] == kind]
        marker = {"color": color, "size": 8, "opacity": 0.85}
        hover = [str(escape(arch_id)) for arch_id in rows["arch_id"]]
        figure.add_scatter(
            x=rows["evaluated"], y=rows["predicted"], mode="markers", name=kind, marker=marker, text=hover
        )
    return {quantity.label: figure}


def training(log: pd.DataFrame) -> dict[str, go.Figure]:
    """Losses of the subnets and the learning rate by step."""
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.75, 0.25], vertical_spacing=0.06, figure=_figure()
    )
    for role, color in {"largest": SEARCH, "smallest": CORNER, "random": FAINT}.items():
        losses = log[f"loss_{role}"]
        if losses.notna().any():  # otherwise the sampler has no such subnet
            line = {"color": color, "width": 2}
            figure.add_scatter(x=log["step"], y=losses, mode="lines", name=role, line=line, row=1, col=1)
    line = {"color": OTHERS, "width": 2}
    figure.add_scatter(
        x=log["step"], y=log["lr"], mode="lines", name="learning rate", line=line, row=2, col=1
    )
    figure.update_xaxes(zeroline=False)
    figure.update_yaxes(zeroline=False)
    figure.update_yaxes(title_text="loss", type="log", dtick="D2", row=1, col=1)
    figure.update_yaxes(title_text="lr", row=2, col=1)
    figure.update_xaxes(title_text="step", row=2, col=1)
    return {"training": figure}


# ---------------------------------------------------------------------- parts of figures

_NONE = pd.Series(dtype=float)


def _figure(x: str = "", y: str = "") -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        template="none",
        height=430,
        margin={"l": 64, "r": 16, "t": 36, "b": 52},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hoverlabel={"align": "left"},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        showlegend=True,
    )
    figure.update_xaxes(title_text=x, zeroline=False, automargin=True)
    figure.update_yaxes(title_text=y, zeroline=False, automargin=True)
    return figure


def _on_validation(evaluations: pd.DataFrame | None) -> pd.DataFrame | None:
    """One row per subnet, for the validation split only: subnets are not selected on the test split."""
    if evaluations is None or evaluations.empty:
        return None
    return evaluations[evaluations["split"] == "validation"].drop_duplicates("arch_id")


def _points(
    figure: go.Figure,
    space: Space,
    task: Task,
    table: pd.DataFrame | None,
    name: str,
    cost: str,
    metric: str,
    marker: Mapping[str, object],
) -> None:
    if table is None or table.empty or cost not in table:
        return
    figure.add_scatter(
        x=table[cost],
        y=table[metric],
        mode="markers",
        name=name,
        marker=dict(marker),
        text=_hover(space, task, table),
        hovertemplate="%{text}<extra></extra>",
    )


def _front(
    figure: go.Figure,
    space: Space,
    task: Task,
    table: pd.DataFrame | None,
    name: str,
    cost: str,
    metric: str,
    color: str,
) -> None:
    """Points of a front, joined by steps."""
    if table is None or table.empty or cost not in table:
        return
    _points(figure, space, task, table.sort_values(cost), name, cost, metric, {"color": color, "size": 9})
    line = {"color": color, "width": 2, "shape": "hv"}
    figure.update_traces(mode="lines+markers", line=line, selector={"name": name})


def _compared(figure: go.Figure, comparison: pd.DataFrame) -> None:
    figure.add_scatter(
        x=comparison["latency_ms"],
        y=comparison["accuracy"],
        mode="markers",
        name="other models",
        marker={"color": REFERENCE, "size": 9, "symbol": "diamond"},
        text=[str(escape(name)) for name in comparison["model"]],
        hovertemplate="%{text}<br>%{x:.4g} ms, %{y:.1%}<extra></extra>",
    )


def _corners(
    figure: go.Figure, space: Space, task: Task, evaluated: pd.DataFrame | None, cost: str, metric: str
) -> None:
    if evaluated is None:
        return
    for arch, name, symbol in (
        (space.smallest, "smallest", "triangle-down"),
        (space.largest, "largest", "triangle-up"),
    ):
        marker = {"color": CORNER, "size": 12, "symbol": symbol}
        rows = evaluated[evaluated["arch_id"] == arch.id]
        _points(figure, space, task, rows, name, cost, metric, marker)


def _hover(space: Space, task: Task, table: pd.DataFrame) -> list[str]:
    archs = [compact(space, arch) for arch in table["arch"]]
    return [_hover_text(arch, task, row) for arch, (_, row) in zip(archs, table.iterrows(), strict=True)]


def _hover_text(arch: str, task: Task, row: pd.Series[float]) -> str:
    """The hover text of a subnet, in the markup of plotly."""
    breakable = arch.replace(" ", NO_BREAK).replace(f"|{NO_BREAK}", "| ")  # line breaks only between stages
    latencies = [
        f"{number(row[column])} ms {how}"
        for column, how in (("latency_ms", "predicted"), ("measured_latency_ms", "measured"))
        if column in row and np.isfinite(row[column])
    ]
    lines = [
        f"<b>{escape(row['arch_id'])}</b>",
        *(str(escape(line)) for line in textwrap.wrap(breakable, 64)),
        *([" · ".join(latencies)] if latencies else []),
        " · ".join(f"{q.label} {formatted(q, row[q.metric])}" for q in task.quantities),
        f"{count(row['macs'])} MACs · {count(row['params'])} parameters",
    ]
    return "<br>".join(lines)


def _measured(table: pd.DataFrame | None, predicted: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measured and predicted latencies of the rows that have both."""
    if table is None or table.empty:
        return np.empty(0), np.empty(0)
    both = table[["measured_latency_ms", predicted]].dropna().to_numpy(dtype=np.float64)
    return both[:, 0], both[:, 1]


def _diagonal(figure: go.Figure, values: list[NDArray[np.float64]]) -> None:
    """The line on which both axes are equal."""
    coordinates = np.concatenate(values)
    if len(coordinates):
        ends = [coordinates.min(), coordinates.max()]
        line = {"color": FAINT, "dash": "dot"}
        figure.add_scatter(x=ends, y=ends, mode="lines", name="equal", line=line, hoverinfo="skip")
