"""The chosen subnets: their table and their pictures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from nas.onnx_backend.precision import FP32
from nas.report.data import ReportData
from nas.report.drawing import compact, draw
from nas.report.markup import (
    DASH,
    Html,
    count,
    details,
    escape,
    formatted,
    join,
    missing,
    number,
    paragraph,
    section,
    table,
)
from nas.report.sections.commands import EXPORT, REPORT, SEARCH
from nas.runs.tables import PRECISION


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
        precision = data.profile["key"]["precision"]
        notes.append(
            paragraph(
                f"The chosen subnets are tested in {precision}, as deployed; the largest, the smallest and "
                "random subnets above are tested in fp32."
            )
        )
    appendix = _other_files(data, set(data.front["arch_id"]))
    if len(chosen) < len(data.front):
        appendix.append(details(f"All {len(data.front)} subnets of the front", _subnets(data, data.front)))
    return section("Chosen subnets", _subnets(data, chosen), *notes, *appendix)


def pictures(data: ReportData) -> Html:
    """A picture of each chosen subnet."""
    chosen = data.chosen()
    if chosen is None:
        return section("Architectures", missing("front", SEARCH))
    legend = (
        "A box is a block, its height grows with the square root of its channels: "
        "solid for its output, pale for its widest inner layer. "
        "k: kernel, e: expansion ratio, s: stride, SE: squeeze-and-excitation; an arc is a shortcut, "
        "a dashed box a block that the chosen depth leaves out, a thick outline and i8 a block in INT8. "
        "Under a stage's name: output channels · size of the feature map."
    )
    drawings = Html(f'<div class="archs">{join(_drawings(data, chosen))}</div>')
    return section("Architectures", paragraph(legend), drawings)


def _subnets(data: ReportData, rows: pd.DataFrame) -> Html:
    quantities = data.task.quantities[::-1]  # the headline first
    shown = ["arch_id", *data.task.shown]
    test = pd.DataFrame(columns=shown, dtype=float) if data.test is None else data.test[shown]
    test = test.drop_duplicates("arch_id", keep="last")  # the largest subnet may also be a chosen one
    joined = rows.merge(test, "left", on="arch_id", suffixes=("", "_test")).sort_values("latency_ms")
    kinds = {"{}": "validation", "screened_{}": "screening", "{}_test": "test"}
    columns = {
        name.format(quantity.metric): (quantity, f"{quantity.label}, {kind}")
        for quantity in quantities
        for name, kind in kinds.items()
        if name.format(quantity.metric) in joined
    }
    titles = [title for _, title in columns.values()]
    mixed = ["precision"] if PRECISION in joined else []
    header = ("subnet", *mixed, "measured, ms", "predicted, ms", *titles, "MACs", "parameters", "file")
    cells = [
        (
            Html(f"<code>{escape(row['arch_id'])}</code>"),
            *(row[PRECISION] for _ in mixed),
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
