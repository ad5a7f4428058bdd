"""The sections of a report in their order. Each of them supports missing results."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from hw_profiles.latency_models.prediction_error import ErrorRecord, compare
from nas.onnx_backend.precision import FP32
from nas.report import figures
from nas.report.comparison import best_within
from nas.report.data import ReportData
from nas.report.drawing import compact, draw
from nas.report.markup import (
    DASH,
    Html,
    cards,
    code,
    count,
    details,
    escape,
    formatted,
    join,
    missing,
    number,
    paragraph,
    percent,
    plot,
    power_of_ten,
    section,
    table,
    warning,
)
from nas.runs.records import Imported
from nas.search.predictor_record import PredictorRecord
from search_spaces import Space
from search_spaces.families.traced import TracedSpace

TRAIN = "nas train --config recipe.yaml --out RUN"
EVALUATE = "nas evaluate RUN"
PROFILE = "nas profile RUN --device NAME"
SEARCH = "nas search RUN --device NAME"
EXPORT = "nas export RUN"
REPORT = "nas report RUN"


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


def chosen_subnets(data: ReportData) -> Html:
    """The table of the chosen subnets; the whole front is shown after a click."""
    chosen = data.chosen()
    if chosen is None or data.front is None:
        return section("Chosen subnets", missing("front", SEARCH), *_other_files(data, set()))
    notes = []
    if data.run.arch:
        notes.append(
            paragraph("This run is a fine-tuned subnet. Other subnets of the space are not trained.")
        )
    if not data.files:
        notes.append(missing("exported subnet", EXPORT))
    if data.test is None or data.test.empty:
        notes.append(missing("figures on the test split", REPORT))
    elif data.profile and data.profile["key"]["precision"] != FP32:
        notes.append(paragraph("Figures on the test split are for fp32 networks."))
    appendix = _other_files(data, set(data.front["arch_id"]))
    if len(chosen) < len(data.front):
        appendix.append(details(f"All {len(data.front)} subnets of the front", _subnets(data, data.front)))
    return section("Chosen subnets", _subnets(data, chosen), *notes, *appendix)


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


def predictions(data: ReportData) -> Html:
    """Predicted and measured latency, predicted and evaluated primary metric."""
    return section("Predicted against measured", _latency(data), _predictor(data))


def training(data: ReportData) -> Html:
    """Training curves."""
    if data.training is None or data.training.empty:
        return section("Training", missing("finished epoch", TRAIN))
    caption = (
        "Mean losses of the largest, the smallest and all other trained subnets. With in-place distillation, "
        "the first subnet of a step learns from the labels, the others from its outputs."
    )
    return section("Training", plot(figures.training(data.training), caption))


def pictures(data: ReportData) -> Html:
    """A picture of each chosen subnet."""
    chosen = data.chosen()
    if chosen is None:
        return section("Architectures", missing("front", SEARCH))
    legend = (
        "A box is a block, its height grows with the square root of its channels: "
        "solid for its output, pale for its widest inner layer. "
        "k: kernel, e: expansion ratio, s: stride, SE: squeeze-and-excitation; an arc is a shortcut, "
        "a dashed box a block that the depth switches off. "
        "Under a stage's name: output channels · size of the feature map."
    )
    drawings = Html(f'<div class="archs">{join(_drawings(data, chosen))}</div>')
    return section("Architectures", paragraph(legend), drawings)


def device(data: ReportData) -> Html:
    """The device, the settings of its profile, and the prediction errors."""
    if not data.profile:
        return section("Device", missing("device profile", PROFILE))
    profile = data.profile
    quality = [
        ("predicted by", profile["latency_model"]),
        ("held-out MAPE", percent(profile["held_out"]["mape"], 2)),
        ("MACs alone", percent(profile["held_out_macs"]["mape"], 2)),
        ("noise floor", percent(profile["noise_floor"], 2)),
        ("split-half Spearman", number(profile["split_half_spearman"])),
        ("sentinel drift", percent(profile["sentinel_drift"], 2)),
        ("throttled trials", percent(profile["slow_share"], 1)),
        ("measured in", f"{profile['seconds']:.1f} s"),
    ]
    return section(
        "Device",
        *noise(data),
        cards(plain_fields(profile["hardware"])),
        cards(plain_fields(profile["key"])),
        cards(quality),
        details("Whole profile", table(("field", "value"), plain_fields(profile), numbers=False)),
    )


def noise(data: ReportData) -> list[Html]:
    """A warning if the machine was too noisy for reliable latencies."""
    if not data.profile or not data.profile["too_noisy"]:
        return []
    floor = percent(data.profile["noise_floor"])
    text = f"Machine too noisy: repeated measurements differ by {floor}; the latencies are unreliable."
    return [warning(text)]


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


def commands(data: ReportData) -> Html:
    """Commands that reproduce the results."""
    name = shlex.quote(data.profile["name"]) if data.profile else "NAME"
    origin = paragraph("RUN is the directory of this run, NEW that of a new run.")
    first = "nas train --config RUN/recipe.yaml --out NEW"
    if data.run.imported:
        origin = paragraph("CHECKPOINT is the file with the weights, NEW the directory of a new run.")
        first = _import_command(data.run.imported, data.space)
    lines = [first, "nas evaluate NEW", "nas export NEW", "nas report NEW"]
    if data.run.arch:
        origin = join([origin, paragraph("The recipe names the run whose weights the training starts from.")])
    else:
        lines[2:2] = [f"nas profile NEW --device {name}", f"nas search NEW --device {name}"]
    versions = ", ".join(f"{package} {version}" for package, version in data.run.versions.items())
    seeds = f"seed {data.run.seed}, split seed {data.run.split_seed}"
    return section(
        "Reproduce",
        origin,
        code("\n".join(lines)),
        paragraph(f"{seeds}; {versions}."),
    )


def _import_command(imported: Imported, space: Space) -> str:
    words = ["nas", "import", imported.source]
    if isinstance(space, TracedSpace):
        words.append(shlex.quote(space.config.origin))
        words += ["--weights", "CHECKPOINT"] if imported.checkpoint else []
    else:
        words += ["CHECKPOINT"]
        name = shlex.quote(space.name) if imported.source == "ofa" else "RUN/space.yaml"
        words += [] if imported.source == "attentivenas" else ["--space", name]
    return " ".join([*words, "--out", "NEW", "--data-root", "FOLDER"])


# ---------------------------------------------------------------------- parts of sections


def _subnets(data: ReportData, rows: pd.DataFrame) -> Html:
    quantities = data.task.quantities[::-1]  # the headline first
    shown = ["arch_id", *data.task.shown]
    test = pd.DataFrame(columns=shown, dtype=float) if data.test is None else data.test[shown]
    test = test.drop_duplicates("arch_id")  # the largest subnet may also be a chosen one
    joined = rows.merge(test, "left", on="arch_id", suffixes=("", "_test")).sort_values("latency_ms")
    kinds = {"{}": "validation", "screened_{}": "screening", "{}_test": "test"}
    columns = {
        name.format(quantity.metric): (quantity, f"{quantity.label}, {kind}")
        for quantity in quantities
        for name, kind in kinds.items()
        if name.format(quantity.metric) in joined
    }
    titles = [title for _, title in columns.values()]
    header = ("subnet", "measured, ms", "predicted, ms", *titles, "MACs", "parameters", "file")
    cells = [
        (
            Html(f"<code>{escape(row['arch_id'])}</code>"),
            _measured(row["measured_latency_ms"]),
            number(row["latency_ms"]),
            *(formatted(quantity, row[name]) for name, (quantity, _) in columns.items()),
            count(row["macs"]),
            count(row["params"]),
            ", ".join(data.files.get(row["arch_id"], [DASH])),
        )
        for _, row in joined.iterrows()
    ]
    return table(header, cells)


def _compared(data: ReportData) -> list[Html]:
    """The other models, each next to the most accurate subnet of the front that is not slower."""
    if data.comparison is None or data.front is None or data.test is None:
        return []
    front = data.front[["arch_id", "latency_ms", "measured_latency_ms"]].merge(
        data.test.drop_duplicates("arch_id"), on="arch_id"
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
    note = paragraph("Other models: the latencies and accuracies are those of the file given to the report.")
    return [note, table(header, rows)]


def _other_files(data: ReportData, shown: set[str]) -> list[Html]:
    """The exported files of all subnets that are not in `shown`."""
    rows = [(arch_id, ", ".join(names)) for arch_id, names in data.files.items() if arch_id not in shown]
    return [details("Other exported subnets", table(("subnet", "file"), rows))] if rows else []


def _measured(value: float) -> str:
    return number(value) if np.isfinite(value) else "not measured"


def _drawings(data: ReportData, chosen: pd.DataFrame) -> Iterator[Html]:
    headline = data.task.headline
    for _, row in chosen.sort_values("latency_ms").iterrows():
        arch, quality = row["arch"], formatted(headline, row[headline.metric])
        title = f"{number(row['latency_ms'])} ms · {quality} · {count(row['macs'])} MACs"
        yield Html(
            f'<figure class="arch"><h3><code>{escape(row["arch_id"])}</code> {escape(title)}</h3>'
            f'<div class="scroll">{draw(data.space, arch)}</div>'
            f"<figcaption><code>{escape(compact(data.space, arch))}</code></figcaption></figure>"
        )


def _latency(data: ReportData) -> Html:
    title = Html("<h3>Latency</h3>")
    if data.latency is None or data.latency.empty:
        return join([title, missing("held-out latencies", PROFILE)])
    header = ("latency", "subnets", "MAPE", "bias", "within 5 %", "Kendall τ")
    errors = table(header, _error_rows(data, data.latency))
    return join([title, plot(figures.latency(data.latency, data.front)), errors])


def _error_rows(data: ReportData, held_out: pd.DataFrame) -> Iterator[tuple[object, ...]]:
    """Errors of the predictions, of a baseline by MACs, and the noise floor."""
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


def _predictor(data: ReportData) -> Html:
    record = data.predictor
    if record is None or data.predictions is None:
        return missing("predictor", SEARCH) if data.front is None else Html("")
    quantity = data.task.quantity(record.metric)
    caption = (
        "No prediction is by a model that was fitted to the subnet. Cross-validation: five parts of all "
        "evaluated subnets, each predicted by a model of the other four. Before evaluation: the subnets of "
        "each round of the search, predicted by the model that proposed them; they lie near the front and "
        "differ less, which lowers Kendall τ. Ceiling: the highest value that a predictor can be expected "
        "to reach."
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


def plain_fields(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and formatted values of all fields in nested mappings, except lists."""
    for key, value in values.items():
        name = prefix + key.replace("_", " ")
        if isinstance(value, Mapping):
            yield from plain_fields(value, f"{name} · ")
        elif isinstance(value, bool):
            yield name, "yes" if value else "no"
        elif isinstance(value, float):
            yield name, number(value, 4)
        elif isinstance(value, str | int):
            yield name, str(value)
