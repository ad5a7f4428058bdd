"""The quality of predictions: latency and primary metric."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from hw_profiles.latency_models.prediction_error import ErrorRecord, compare
from nas.report import figures
from nas.report.data import ReportData
from nas.report.markup import Html, details, escape, join, missing, number, percent, plot, section, table
from nas.report.sections.commands import PROFILE, SEARCH
from nas.search.predictor_record import PredictorRecord


def predictions(data: ReportData) -> Html:
    """The section with predicted and measured latencies, and predicted and evaluated metrics."""
    return section("Predicted against measured", _latency(data), _predictor(data))


def _latency(data: ReportData) -> Html:
    title = Html("<h3>Latency</h3>")
    if data.latency is None or data.latency.empty:
        return join([title, missing("held-out latencies", PROFILE)])
    header = ("latency", "subnets", "MAPE", "bias", "within 5 %", "Kendall τ")
    errors = table(header, _error_rows(data, data.latency))
    return join([title, plot(figures.latency(data.latency, data.front)), errors])


def _error_rows(data: ReportData, held_out: pd.DataFrame) -> Iterator[tuple[object, ...]]:
    """Errors of the latency predictions and of a baseline from MACs alone, and the noise floor."""
    columns = ["predicted_latency_ms", "measured_latency_ms"]
    yield _error_row("held-out subnets, predicted", compare(*held_out[columns].to_numpy().T))
    if data.profile:
        line = ErrorRecord.model_validate(data.profile["held_out_macs"])
        yield _error_row("held-out subnets, predicted from MACs", line)
        floor = percent(data.profile["noise_floor"], 2)
        yield "held-out subnets, measured again (noise floor)", len(held_out), floor, "", "", ""
    if data.front is not None:
        measured = data.front[["latency_ms", "measured_latency_ms"]].dropna()
        if len(measured) > 1:
            yield _error_row("returned subnets, predicted", compare(*measured.to_numpy().T))


def _error_row(name: str, error: ErrorRecord) -> tuple[object, ...]:
    within = percent(error.within_5_percent, 0)
    tau = f"{error.kendall_tau:.3f}"
    return name, error.n, percent(error.mape, 2), percent(error.bias, 2), within, tau


def _predictor(data: ReportData) -> Html:
    record = data.predictor
    if record is None or data.predictions is None:
        return missing("predictor", SEARCH) if data.front is None else Html("")
    quantity = data.task.quantity(record.metric)
    caption = (
        "No prediction is by a model that was fitted to the subnet. Cross-validation: all evaluated subnets "
        "in five parts, each predicted by a model that was fitted to the other four. Before evaluation: the "
        "subnets of each round of the search, predicted by the model that proposed them; they lie near the "
        "front and differ less, which lowers Kendall τ. Ceiling: the highest value that a predictor can be "
        "expected to reach."
    )
    return join(
        [
            Html(f"<h3>{escape(quantity.label.capitalize())}</h3>"),
            table(("comparison", "subnets", "Kendall τ", "95 % interval"), _correlation_rows(record)),
            plot(figures.predictor(data.predictions, quantity), caption),
            *_rounds(record),
        ]
    )


def _correlation_rows(record: PredictorRecord) -> Iterator[tuple[object, ...]]:
    comparisons = {
        f"predictor {record.name}, cross-validation": record.cross_validation,
        "predictor, before evaluation": record.before_evaluation,
        "two evaluations with different calibration images (ceiling)": record.ceiling,
    }
    for name, correlation in comparisons.items():
        if correlation is not None:
            interval = f"{correlation.low:.3f} to {correlation.high:.3f}"
            yield name, correlation.n, f"{correlation.kendall_tau:.3f}", interval


def _rounds(record: PredictorRecord) -> list[Html]:
    header = ("round", "predictor", "fitted to", "subnets", "Kendall τ", "mean absolute error")
    rows = [
        (r.number, r.predictor, r.n_train, r.n, number(r.kendall_tau), number(r.mean_absolute_error))
        for r in record.rounds
    ]
    return [details("Predictor by round of the search", table(header, rows))] if rows else []
