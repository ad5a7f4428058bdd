import json
import re
import shutil
import subprocess
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

import search_spaces
from hw_profiles.latency_models.prediction_error import ErrorRecord
from hw_profiles.latency_models.robust_regression import Affine
from hw_profiles.measuring.results import Conditions
from hw_profiles.profile import DeviceProfile, Hardware
from hw_profiles.run_settings import DeviceKey
from nas import tasks
from nas.report import ReportData, write_report
from nas.report.data import MAX_CHOSEN
from nas.report.drawing import compact, draw
from nas.report.figures import NO_BREAK, pareto
from nas.report.markup import DASH, count, number, percent, power_of_ten, table
from nas.runs.records import Imported, RunInfo
from nas.search.algorithms.prediction_log import CROSS_VALIDATION
from nas.search.predictor_record import PredictorRecord, RankCorrelation, Round
from search_spaces import Arch, Genomes, Space
from search_spaces import operators as ops
from search_spaces.costs import macs_table, params_table

TASK = tasks.get("classification")
DIGITS = search_spaces.get("digits")
EVIL = "</script><script>console.log('evil')</script>&\"'"
RUN = RunInfo(
    created="2026-01-02T03:04:05+00:00",
    versions={"torch": "2.13.0"},
    space="digits",
    dataset=EVIL,
    output_names=["zero", "one"],
)
N_EVALUATED, N_FRONT, N_BASELINE, N_HELD_OUT = 30, 9, 4, 20


def subnets(space: Space, genomes: Genomes) -> pd.DataFrame:
    """A table of subnets with plausible figures: cross-entropy falls as latency rises."""
    archs = space.decode(genomes)
    macs = macs_table(space)(genomes)
    cross_entropy = 0.4 - 0.3 * macs / space.macs(space.largest)
    return pd.DataFrame(
        {
            "arch_id": [arch.id for arch in archs],
            "arch": archs,
            "split": "validation",
            "cross_entropy": cross_entropy,
            "top1": 1 - cross_entropy / 4,
            "latency_ms": macs / 1e6,
            "macs": macs,
            "params": params_table(space)(genomes),
        }
    )


def profile(noise_floor: float) -> dict[str, Any]:
    hardware = Hardware(cpu=EVIL, cores=2, machine="x86_64", os="Linux", python="3.11", numpy="2.0")
    key = DeviceKey(runtime="onnxruntime", version="1.31", provider="CPU", threads=1, batch=1)
    error = ErrorRecord(
        n=24,
        mape=0.07,
        bias=0.01,
        within_5_percent=0.5,
        within_10_percent=0.75,
        spearman=0.95,
        kendall_tau=0.9,
    )
    return DeviceProfile(
        name=EVIL,
        space="digits",
        created="2026-01-02T03:04:05+00:00",
        seconds=5,
        check_seconds=2,
        conditions=Conditions(),
        key=key,
        hardware=hardware,
        n_blocks=99,
        n_calibration=10,
        calibration=Affine(slope=1, intercept_ms=0),
        latency_model="table",
        cross_validated={"table": error},
        held_out=error,
        held_out_macs=error,
        noise_floor=noise_floor,
        split_half_spearman=0.99,
        sentinel_drift=0.01,
    ).model_dump(mode="json")


@pytest.fixture(scope="module")
def data() -> ReportData:
    rng = np.random.default_rng(0)
    corners = DIGITS.encode([DIGITS.smallest, DIGITS.largest])
    evaluations = subnets(DIGITS, np.vstack([corners, DIGITS.sample(rng, N_EVALUATED - 2)]))
    front = subnets(DIGITS, DIGITS.sample(rng, N_FRONT)).assign(predicted_cross_entropy=0.2)
    front["measured_latency_ms"] = [float("nan"), *front["latency_ms"][1:] * 1.01]
    real, measured = rng.uniform(0.1, 0.4, N_HELD_OUT), rng.uniform(0.1, 2, N_HELD_OUT)
    ids = [f"subnet{i}" for i in range(N_HELD_OUT)]
    epochs = np.arange(1, 6)
    losses = {f"loss_{role}": 1 / epochs for role in ("largest", "smallest", "random")}
    return ReportData(
        run=RUN,
        space=DIGITS,
        task=TASK,
        training=pd.DataFrame({"step": 10 * epochs, "lr": 0.1 / epochs} | losses),
        evaluations=evaluations,
        front=front,
        baseline=evaluations.iloc[2 : 2 + N_BASELINE].assign(
            measured_latency_ms=float("nan"), predicted_cross_entropy=0.3
        ),
        test=front[["arch_id", "cross_entropy", "top1"]].assign(top1=0.12345),
        predictor=PredictorRecord(
            name="ridge",
            metric="cross_entropy",
            cross_validation=RankCorrelation(n=N_HELD_OUT, kendall_tau=0.812, low=0.7, high=0.9),
            before_evaluation=None,
            ceiling=RankCorrelation(n=5, kendall_tau=0.954, low=0.9, high=1.0),
            rounds=[
                Round(number=1, predictor="ridge", n_train=10, n=2, kendall_tau=None, mean_absolute_error=0.1)
            ],
        ),
        predictions=pd.DataFrame(
            {"kind": CROSS_VALIDATION, "arch_id": ids, "predicted": real + 0.01, "evaluated": real}
        ),
        latency=pd.DataFrame(
            {"arch_id": ids, "predicted_latency_ms": 1.1 * measured, "measured_latency_ms": measured}
        ),
        profile=profile(noise_floor=0.005),
        hypervolume={"search": 0.6, "random search": 0.5},
        reference_point={"latency_ms": 3.0, "cross_entropy": 0.5},
        figures=[(EVIL, 0.8123, "", "at least 0.65")],
        files={front["arch_id"][0]: [EVIL], front["arch_id"][4]: ["b.onnx", "b.int8.onnx"]},
    )


@pytest.fixture(scope="module")
def page(data: ReportData) -> str:
    return write_report(data)


def text_of(page: str) -> str:
    """The page without plotly.js, whose own text would match anything."""
    return re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


# ---------------------------------------------------------------------- the page


def test_page_loads_nothing_from_elsewhere(page: str) -> None:
    assert page.count("<script>") == 2  # plotly.js and the template's own
    assert re.findall(r'(?:src|href|action)="(?!data:)', text_of(page)) == []
    assert "@import" not in text_of(page)
    assert "url(" not in text_of(page)
    assert "default-src 'none'" in page


def test_same_data_same_page(data: ReportData, page: str) -> None:
    assert write_report(data) == page


def test_page_has_every_part(page: str) -> None:
    titles = re.findall("<h2>(.*?)</h2>", page)
    assert titles == [
        "Chosen subnets",
        "Pareto front",
        "Figures",
        "Predicted against measured",
        "Architectures",
        "Training",
        "Device",
        "Reproduce",
    ]
    assert 'class="missing"' not in page


def test_what_users_wrote_is_escaped(page: str) -> None:
    assert "<script>console.log" not in page
    assert page.count("&lt;/script&gt;&lt;script&gt;console.log(&#x27;evil&#x27;)") >= 4  # one for each place


def test_plots_are_json_that_cannot_end_their_element(page: str) -> None:
    plots = re.findall(r'<script type="application/json">(.*?)</script>', page, flags=re.DOTALL)
    names = [[view["name"] for view in json.loads(plot)] for plot in plots]
    assert names == [["cross-entropy", "top-1"], ["ms", "relative error"], ["cross-entropy"], ["training"]]


@pytest.mark.parametrize(
    ("absent", "command"),
    [
        ("training", "nas train"),
        ("evaluations", None),  # the front alone makes a plot
        ("front", "nas search"),
        ("baseline", None),
        ("test", "nas report"),
        ("predictor", None),  # a search may use none
        ("predictions", None),
        ("latency", "nas profile"),
        ("profile", "nas profile"),
        ("hypervolume", None),
        ("comparison", None),
        ("reference_point", None),
        ("figures", None),
        ("files", "nas export"),
    ],
)
def test_absent_part_names_the_command_that_makes_it(
    data: ReportData, absent: str, command: str | None
) -> None:
    default = getattr(ReportData(RUN, DIGITS, TASK), absent)
    variants = [default]
    if isinstance(getattr(data, absent), pd.DataFrame):
        variants.append(getattr(data, absent).iloc[:0])
    for value in variants:
        commands = re.findall(
            r'class="missing">.*?<code>(.*?)</code>', write_report(replace(data, **{absent: value}))
        )
        assert all(found.startswith(str(command)) for found in commands)
        assert bool(commands) == (command is not None)


def test_command_of_an_import_has_its_options() -> None:
    options = ["--space", "RUN/space.yaml", "--classes", "CLASSES", "--key", "of ema"]
    imported = Imported(
        source="timm",
        checkpoint="w.pt",
        sha256="0",
        calibrated=True,
        validation_images=10,
        options=options,
    )
    page = write_report(ReportData(RUN.model_copy(update={"imported": imported}), DIGITS, TASK))
    assert (
        "nas import timm CHECKPOINT --space RUN/space.yaml --classes CLASSES --key &#x27;of ema&#x27; "
        "--out NEW --data-root FOLDER" in page
    )
    assert "CLASSES is the list of the classes" in page


def test_empty_run_has_a_page() -> None:
    page = write_report(ReportData(RUN, DIGITS, TASK))
    for command in ("train", "evaluate", "profile", "search"):
        assert f"<code>nas {command} " in page
    assert len(fields(ReportData)) == 17  # a new part needs a case above


def test_figures_of_the_test_split_stay_out_of_the_plot(data: ReportData) -> None:
    assert data.evaluations is not None
    both = pd.concat([data.evaluations, data.evaluations.assign(split="test", cross_entropy=9.0)])
    for view in pareto(DIGITS, TASK, None, both, None, {}).values():
        assert len(view.data[0].x) == N_EVALUATED
        assert max(view.data[0].y) < 9


def test_pareto_plot_has_corners_reference_and_steps(data: ReportData) -> None:
    plot = pareto(DIGITS, TASK, data.front, data.evaluations, data.baseline, data.reference_point)[
        "cross-entropy"
    ]
    traces = {trace.name: trace for trace in plot.data}
    assert (traces["reference point"].x, traces["reference point"].y) == ((3.0,), (0.5,))
    assert traces["largest"].x[0] == DIGITS.macs(DIGITS.largest) / 1e6
    assert traces["smallest"].x[0] == DIGITS.macs(DIGITS.smallest) / 1e6
    assert list(traces["search"].x) == sorted(traces["search"].x)
    assert traces["search"].line.shape == "hv"
    hover = traces["largest"].text[0].replace("<br>", " ").replace(NO_BREAK, " ")
    assert compact(DIGITS, DIGITS.largest) in hover


def test_other_models_are_shown_next_to_the_front(data: ReportData) -> None:
    assert data.front is not None
    fast, slow = data.front["latency_ms"].min() / 2, data.front["latency_ms"].max() * 2
    models = pd.DataFrame(
        {"model": ["tiny<b>", "other-net"], "latency_ms": [fast, slow], "accuracy": [0.5, 0.75]}
    )
    compared = replace(data, comparison=models)
    views = pareto(DIGITS, TASK, data.front, data.evaluations, None, {}, models)
    traces = {trace.name: trace for trace in views["top-1"].data}
    assert list(traces["other models"].x) == [fast, slow]
    assert list(traces["other models"].y) == [0.5, 0.75]
    assert "other models" not in {trace.name for trace in views["cross-entropy"].data}
    text = write_report(compared)
    rows = re.findall(r"<tr><td[^>]*>(tiny&lt;b&gt;|other-net)</td>(.*?)</tr>", text)
    assert [(name, DASH in cells) for name, cells in rows] == [("tiny&lt;b&gt;", True), ("other-net", False)]


def test_cost_is_macs_where_no_device_was_profiled(data: ReportData) -> None:
    assert data.evaluations is not None
    unknown = data.evaluations.assign(latency_ms=float("nan"))
    plot = pareto(DIGITS, TASK, None, unknown, None, {})["top-1"]
    assert plot.layout.xaxis.title.text == "MACs"
    assert list(plot.data[0].x) == list(unknown["macs"])


def test_chosen_are_the_exported_or_spread_over_the_front(data: ReportData) -> None:
    chosen = data.chosen()
    assert chosen is not None
    assert set(chosen["arch_id"]) == set(data.files)
    spread = replace(data, files={}).chosen()
    assert spread is not None
    assert data.front is not None
    ids = list(data.front["arch_id"])
    assert [ids.index(i) for i in spread["arch_id"]] == [0, 2, 3, 5, 6, 8]  # round(i * 8 / 5), i = 0..5
    assert len(spread) == MAX_CHOSEN
    for n in (1, 2, MAX_CHOSEN):
        few = replace(data, files={}, front=data.front.iloc[:n]).chosen()
        assert few is not None
        assert list(few["arch_id"]) == ids[:n]


def test_subnets_table_shows_test_figures_and_what_was_not_measured(page: str) -> None:
    rows = re.findall(r"<tr>(.*?)</tr>", page.partition("<details>")[0])
    cells = [re.findall("<td>(.*?)</td>", row) for row in rows[1:]]
    assert len(cells) == 2  # two exported files
    assert sorted(row[1] == "not measured" for row in cells) == [False, True]
    assert {row[4] for row in cells} == {"12.3 %"}


def test_noisy_machine_is_announced(data: ReportData, page: str) -> None:
    assert 'class="warning"' not in page
    noisy = write_report(replace(data, profile=profile(noise_floor=0.0567)))
    assert "differ by 5.7 %" in noisy[noisy.index('class="warning"') :]


def test_latency_errors_by_hand(data: ReportData) -> None:
    """Held out, every prediction is 10 % too slow; of the front, all but one subnet measured 1 % slower."""
    page = write_report(data)
    table = page[page.index('<th scope="col">latency</th>') :].partition("</table>")[0]
    rows = [re.findall("<td>(.*?)</td>", row) for row in table.split("<tr>")]
    by_name = {row[0]: row[1:] for row in rows if row}
    assert by_name["held-out subnets, predicted"] == ["20", "10.00 %", "10.00 %", "0 %", "1.000"]
    assert by_name["held-out subnets, predicted from MACs"] == ["24", "7.00 %", "1.00 %", "50 %", "0.900"]
    assert by_name["held-out subnets, measured again (noise floor)"][1] == "0.50 %"
    # 1 / 1.01 - 1 = -0.99 %
    assert by_name["returned subnets, predicted"] == ["8", "0.99 %", "-0.99 %", "100 %", "1.000"]


def test_rank_correlations_say_what_they_are_computed_from(page: str) -> None:
    table = page[page.index('<th scope="col">comparison</th>') :].partition("</table>")[0]
    rows = [re.findall("<td>(.*?)</td>", row) for row in table.split("<tr>")[1:]]
    assert rows == [
        ["predictor ridge, cross-validation", "20", "0.812", "0.700 to 0.900"],
        ["two evaluations with different calibration images (ceiling)", "5", "0.954", "0.900 to 1.000"],
    ]
    rounds = page[page.index('<th scope="col">round</th>') :].partition("</table>")[0]
    assert re.findall("<td>(.*?)</td>", rounds) == ["1", "ridge", "10", "2", DASH, "0.100"]


# ---------------------------------------------------------------------- pictures


def test_compact_line_by_hand(tiny: Space, tiny_arch: Arch) -> None:
    assert compact(tiny, tiny_arch) == "8px · 4 | 4: k3e1 k5e2 | 6: k3e2 | 6"


def test_compact_lines_of_different_subnets_differ(space: Space, rng: np.random.Generator) -> None:
    archs = space.decode(space.sample(rng, 100))
    assert len({compact(space, arch) for arch in archs}) == len(set(archs))


def test_picture_shows_every_slot(space: Space, rng: np.random.Generator) -> None:
    for arch in (space.smallest, space.largest, *space.decode(space.sample(rng, 5))):
        blocks = space.blocks(arch)
        svg = ElementTree.fromstring(draw(space, arch))
        classes = [element.get("class", "").split(" ")[0] for element in svg.iter()]
        marks = ["".join(element.itertext()) for element in svg.iter() if "mark" in element.get("class", "")]
        assert classes.count("box") == len(blocks)
        assert classes.count("off") == len(space.slots) - len(blocks)
        assert marks.count("SE") == sum(block.has(ops.Multiply) for block in blocks)
        assert classes.count("shortcut") == sum(block.has(ops.Add) for block in blocks)
        strides = [
            any(getattr(node.op, "stride", 1) not in (1, (1, 1)) for node in block.nodes) for block in blocks
        ]
        assert len(marks) - marks.count("SE") == sum(strides)


def test_picture_stays_in_its_frame(space: Space) -> None:
    svg = ElementTree.fromstring(draw(space, space.largest))
    rects = [element for element in svg.iter() if element.tag == "rect"]
    for start, size, limit in (("x", "width", svg.get("width")), ("y", "height", svg.get("height"))):
        assert all(float(rect.get(start, "nan")) >= 0 for rect in rects)
        ends = [float(rect.get(start, "nan")) + float(rect.get(size, "nan")) for rect in rects]
        assert max(ends) <= float(limit or 0)


def test_more_channels_make_a_higher_box(tiny: Space, tiny_arch: Arch) -> None:
    def first_box(arch: Arch) -> float:
        svg = ElementTree.fromstring(draw(tiny, arch))
        return next(float(e.get("height", "nan")) for e in svg.iter() if e.get("class", "").startswith("box"))

    assert first_box(tiny_arch | {"stem.width": 4}) > first_box(tiny_arch | {"stem.width": 2})


def test_arch_of_another_space_is_refused(tiny_arch: Arch) -> None:
    with pytest.raises(ValueError, match="must have a value for each active choice"):
        draw(DIGITS, tiny_arch)


# ---------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.012345, "0.0123"), (1.5, "1.50"), (123.4, "123"), (1e-7, "1.00e-07"), (np.nan, DASH)],
)
def test_number_has_three_significant_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_other_numbers() -> None:
    assert [count(v) for v in (12, 1234, 5.6e6, 7e9)] == ["12", "1.23 k", "5.60 M", "7.00 G"]
    assert [percent(v) for v in (0.98765, float("nan"))] == ["98.8 %", DASH]
    assert [power_of_ten(v) for v in (1280, 4_700_000_000)] == ["1,280", "4.7 &times; 10<sup>9</sup>"]


def test_table_escapes_plain_text_alone() -> None:
    assert "<td>&lt;b&gt;</td>" in table(("a",), [("<b>",)])
    assert "<td>4.7 &times; 10<sup>9</sup></td>" in table(("a",), [(power_of_ten(4_700_000_000),)])


# ---------------------------------------------------------------------- in a browser


@pytest.mark.slow
def test_browser_draws_the_plots_without_an_error(page: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    click = "<script>document.querySelectorAll('.views button:last-child').forEach(b => b.click())</script>"
    plain = _rendered(chromium, page, tmp_path / "plain")
    clicked = _rendered(chromium, page.replace("</body>", click + "</body>"), tmp_path / "clicked")
    assert ">cross-entropy, nats</text>" in plain
    assert ">top-1 accuracy</text>" in clicked
    assert ">cross-entropy, nats</text>" not in clicked
    # Pareto: evaluated, front, baseline, two corners; latency: held-out and measured front; cross-entropy
    points = (N_EVALUATED + N_FRONT + N_BASELINE + 2) + (N_HELD_OUT + N_FRONT - 1) + N_HELD_OUT
    assert plain.count('class="point"') == points + 1  # the reference point
    assert clicked.count('class="point"') == points  # top-1 has none
    for document in (plain, clicked):
        assert document.count('class="js-line"') >= 4  # three losses and the learning rate
        assert document.count('class="subnet"') == 2


def _rendered(chromium: str, page: str, folder: Path) -> str:
    """The document as a browser without network made it; fails where the console heard of an error."""
    folder.mkdir()
    (folder / "report.html").write_text(page, encoding="utf-8")
    command = [
        chromium,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}",
        "--virtual-time-budget=10000",
        "--dump-dom",
        (folder / "report.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert console == []
    return re.sub(r"<script.*?</script>", "", done.stdout, flags=re.DOTALL)
