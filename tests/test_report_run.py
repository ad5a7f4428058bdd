"""The report as a step of a run, and who may look at the test split."""

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import BUDGET, make_device

import nas
from nas.data.dataset import ImageDataset, Split, SplitName
from nas.evaluation.deployed import Target
from nas.evaluation.trained_run import TrainedRun
from nas.export.export_run import export_subnets
from nas.recipes.groups import ComputeConfig, DataConfig
from nas.recipes.recipe import Recipe
from nas.report import final_test as module
from nas.report.figures_of_merit import figure_rows
from nas.report.final_test import final_test
from nas.report.report_run import report_run
from nas.runs.files import FRONT, PREDICTOR, REPORT, SEARCH, TEST
from nas.search.options import SearchOptions
from nas.search.search_run import search_run
from nas.training.finetune import finetune
from search_spaces import Arch


@pytest.fixture(autouse=True)
def _few_random_subnets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "N_RANDOM", 3)


# ---------------------------------------------------------------------- the page


def test_report_of_a_whole_run_has_every_figure(searched: TrainedRun) -> None:
    exported = export_subnets(searched, "spread")
    path, figures = report_run(searched, extra=[("torch against ONNX", 1e-7, "", "<= 1e-5")])
    assert path == searched.run.search().file(REPORT)
    names = [figure["figure"] for figure in figure_rows(figures)]
    assert names == [
        "test top-1, largest subnet",
        "test top-1, median of 3 random subnets",
        "test top-1, smallest subnet",
        "predictor, Kendall tau in cross-validation",
        "predictor, Kendall tau before evaluation",
        "predictor, ceiling of Kendall tau",
        "latency table, MAPE",
        "latency, MAPE of measuring again",
        "latency table, Kendall tau",
        "test hypervolume, search / random search",
        "front found / exact front of the additive surrogate",
        "torch against ONNX",
    ]
    page = path.read_text()
    assert all(name in page for name in ("desk", *(file.path.name for file in exported)))


def test_report_of_a_run_without_a_search_names_the_next_command(trained: TrainedRun) -> None:
    path, figures = report_run(trained)
    assert len(figures) == 3  # accuracies
    assert "nas search RUN --device NAME" in path.read_text()


def test_report_with_other_models(searched: TrainedRun, tmp_path: Path) -> None:
    file = tmp_path / "models.csv"
    file.write_text("model,latency_ms,accuracy\nother-net,12.5,0.25\n")
    path, _ = report_run(searched, compare=file, out=tmp_path)
    assert "other-net" in path.read_text()
    for row, problem in {
        "": "must have a row for each model",
        "a,1": "a row must have 3 values",
        ",1,0.5": "line 2: model must be the name",
        "a,fast,0.5": "line 2: latency_ms must be a number, got 'fast'",
        "a,0,0.5": "line 2: latency_ms must be above 0, got 0",
        "a,,0.5": "line 2: latency_ms must be above 0",
        "a,inf,0.5": "line 2: latency_ms must be above 0, got inf",
        "a,1,93.5": "line 2: accuracy must be a share from 0 to 1, .* got 93.5",
    }.items():
        file.write_text(f"model,latency_ms,accuracy\n{row}\n")
        with pytest.raises(ValueError, match=problem):
            report_run(searched, compare=file)
    file.write_text("model,latency\na,1\n")
    with pytest.raises(ValueError, match="must have the columns model,latency_ms,accuracy"):
        report_run(searched, compare=file)
    with pytest.raises(ValueError, match=r"cannot read .*absent\.csv"):
        report_run(searched, compare=tmp_path / "absent.csv")


def test_other_models_need_latencies_of_the_run(trained: TrainedRun, tmp_path: Path) -> None:
    (tmp_path / "models.csv").write_text("model,latency_ms,accuracy\nother-net,12.5,0.25\n")
    with pytest.raises(ValueError, match="run nas search --device NAME first"):
        report_run(trained, compare=tmp_path / "models.csv")


def test_no_target_where_the_caller_gives_none(searched: TrainedRun) -> None:
    path, figures = report_run(searched, targets={"test top-1, smallest subnet": ">= 1"})
    assert [name for name, _, _, target in figures if target] == ["test top-1, smallest subnet"]
    assert '<th scope="col">target</th>' in path.read_text()
    path, figures = report_run(searched)
    assert {target for *_, target in figures} == {""}
    assert "target" not in path.read_text().partition("<h2>Figures</h2>")[2].partition("</section>")[0]


@pytest.mark.slow
def test_exports_of_every_kind_are_named(searched: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.export.export_run._measure", lambda *_: None)  # there is no such device
    (picked,) = export_subnets(searched, "first")
    files = [picked, *export_subnets(searched, [picked.arch], file_format="torch")]
    files += export_subnets(searched, [picked.arch], precision="int8")
    others = searched.space.decode(searched.space.sample(np.random.default_rng(3), 1))
    files += export_subnets(searched, others)
    path, _ = report_run(searched)
    names = [file.path.name for file in files]
    assert [name.partition(".")[2] for name in names] == ["onnx", "pt2", "int8.onnx", "onnx"]
    assert all(f"desk/{name}" in path.read_text() for name in names)
    assert len(list(picked.path.parent.glob("*.json"))) == len(files)  # no card replaces another


def test_report_of_a_fine_tuned_run_is_about_its_subnet_alone(
    trained: TrainedRun, tiny_arch: Arch, tmp_path: Path
) -> None:
    recipe = Recipe(
        space="digits",
        epochs=1,
        data=DataConfig(dataset="digits", batch_size=128),
        compute=ComputeConfig(accelerator="cpu"),
    )
    tuned = TrainedRun.open(finetune(trained.run.path, tiny_arch, recipe, tmp_path / "tuned").path)
    tuned.evaluator()([tuned.space.smallest], "evaluate")  # its weights are not trained
    path, figures = report_run(tuned)
    test = tuned.run.read_csv(TEST)
    assert test["arch_id"].tolist() == [tiny_arch.id]
    assert [(name, value) for name, value, *_ in figures] == [
        ("test top-1, the fine-tuned subnet", 100 * test["top1"][0])
    ]
    page = path.read_text()
    assert "This run is a fine-tuned subnet" in page
    assert tiny_arch.id in page
    assert tuned.space.smallest.id not in page
    assert "nas search" not in page  # refuses such a run


@pytest.mark.usefixtures("quick_search")
@pytest.mark.parametrize("objectives", [["accuracy", "macs"], ["cross_entropy"]])
def test_report_of_other_objectives_has_no_hypervolume(searched: TrainedRun, objectives: list[str]) -> None:
    device = make_device(searched.space)
    options = SearchOptions(objectives=objectives, predictors=["ridge"], budget=10)
    search_run(searched, device, options)
    path, figures = report_run(searched)
    assert not any("hypervolume" in name for name, *_ in figures)
    assert path.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (SEARCH, '{"schema_version": 1, "dev', r"search\.json is not JSON"),
        (PREDICTOR, '{"schema_version": 1}', r"predictor\.json: "),
        (FRONT, "", r"front\.csv must be a table with a header"),
    ],
)
def test_damaged_files_are_one_line(searched: TrainedRun, name: str, content: str, message: str) -> None:
    searched.run.search().file(name).write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        report_run(searched)
    assert "\n" not in str(caught.value)
    assert not searched.run.search().has(REPORT)


# ---------------------------------------------------------------------- the test split


def test_final_test_has_every_group_and_the_figures_of_the_test_split(searched: TrainedRun) -> None:
    space = searched.space
    front = searched.run.search().read_csv(FRONT)["arch"].tolist()
    frame = final_test(searched, front + front[:1])
    assert frame["group"].value_counts().to_dict() == {
        "largest": 1,
        "smallest": 1,
        "random": 3,
        "chosen": len(front),
    }
    by_group = frame.set_index("group")["arch_id"]
    assert (by_group["largest"], by_group["smallest"]) == (space.largest.id, space.smallest.id)
    known = searched.archive.frame("test").set_index("arch_id")["cross_entropy"]
    assert frame["cross_entropy"].tolist() == [known[i] for i in frame["arch_id"]]
    validation = searched.evaluator()([space.largest], "again")[0]
    assert frame["cross_entropy"][0] != validation["cross_entropy"]
    # the same random subnets each time: the figure is comparable between runs
    assert final_test(searched)["arch_id"].tolist() == frame["arch_id"].tolist()[:5]
    assert np.isfinite(frame[["cross_entropy", "top1"]]).all(axis=None)


def test_final_test_of_an_int8_device_is_that_of_int8_networks(searched: TrainedRun) -> None:
    archs = searched.run.search().read_csv(FRONT)["arch"].tolist()[:1]
    in_fp32 = final_test(searched, archs)
    frame = final_test(searched, archs, target=Target("int8"))
    chosen = frame["group"] == "chosen"
    assert set(frame["evaluated_as"][chosen]) == {"int8 accuracy"}
    assert set(frame["evaluated_as"][~chosen]) == {"fp32 accuracy"}
    assert frame[~chosen].equals(in_fp32[~chosen])
    assert (frame["cross_entropy"] != in_fp32["cross_entropy"]).tolist() == chosen.tolist()
    assert not set(searched.archive.frame("validation")["arch_id"]) - set(
        searched.archive.frame("validation", searched.evaluator().key)["arch_id"]
    )


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def test_nothing_but_the_final_test_names_the_test_split() -> None:
    """Whatever is called `test` in a call is the split; data sets that make the splits aside."""
    root = Path(nas.__file__).parent
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        for call in calls(ast.parse(path.read_text()))
        for value in [*call.args, *(keyword.value for keyword in call.keywords)]
        if isinstance(value, ast.Constant) and value.value == "test"
    }
    assert found == {"report/final_test.py"}


@pytest.mark.slow
@pytest.mark.usefixtures("quick_search")
def test_nothing_before_the_report_looks_at_the_test_split(
    trained: TrainedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[SplitName] = set()
    split = ImageDataset.split

    def watched(self: ImageDataset, name: SplitName) -> Split:
        asked.add(name)
        return split(self, name)

    monkeypatch.setattr(ImageDataset, "split", watched)
    search_run(trained, make_device(trained.space), SearchOptions(predictors=["ridge"], budget=BUDGET))
    export_subnets(trained, "knee")
    assert asked == {"train", "validation"}
    report_run(trained)
    assert "test" in asked
