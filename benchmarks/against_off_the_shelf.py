"""The searched front of a run against published networks that were trained alone on the same images.

    python -m benchmarks.against_off_the_shelf baselines --data-root DIR --out study
    python -m benchmarks.against_off_the_shelf front RUN --out study
    python -m benchmarks.against_off_the_shelf compare --out study --json

`baselines` trains each network of `benchmarks.off_the_shelf_models` in several widths, for as many epochs
as the recipe trains a supernet. Learning rate and weight decay are chosen for each kind of network on the
validation split, by short trainings at its middle width. With `--device cuda`, several networks are trained
at the same time. `front` evaluates the subnets of a searched run on the test split with inherited weights,
and some of them after fine-tuning. `compare` measures the latencies of all models in one session as
`nas benchmark` does, and the time of a training step of each network and of the supernet on the CPU, from
which the hours of all trainings follow. It writes `result.json`, `front.svg`, and `off_the_shelf.csv` for
`nas report RUN --compare`.

After an interruption, the same command continues: only what was interrupted starts again.
`--quick` trains one width of each kind for one epoch.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.front_plot import svg
from benchmarks.off_the_shelf_models import FAMILIES
from benchmarks.off_the_shelf_training import Baselines, baselines, train_baselines, training_hours
from benchmarks.training_strategies import once
from hw_profiles.atomic_write import replace_file
from nas.devices.benchmark import benchmark
from nas.evaluation.trained_run import TrainedRun
from nas.export.export_run import export_subnets
from nas.progress import Progress, shown, silent
from nas.recipes import recipe as recipes
from nas.recipes.recipe import Recipe
from nas.recipes.recipe import parse as parse_recipe
from nas.report.comparison import best_within
from nas.runs.files import FRONT, RECIPE, SPEED
from nas.search.problem.hypervolume import MARGIN, hypervolume
from nas.training.finetune import finetune
from search_spaces import Arch

FINETUNING = {"epochs": 3, "optimizer.lr": 0.02, "schedule.warmup_epochs": 0}
"""Changes to the recipe of the run."""
MAX_FINETUNED = 6
"""Number of subnets that are fine-tuned, spread over the front."""
FRONT_CSV, LATENCY_CSV = "front.csv", "latency.csv"
COMPARE_CSV, RESULT, PLOT = "off_the_shelf.csv", "result.json", "front.svg"


# ---------------------------------------------------------------------- the front of a run


def evaluate_front(
    run: Path,
    out: Path,
    *,
    data_root: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    n_finetuned: int = MAX_FINETUNED,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Test accuracy of the front of a run, inherited and fine-tuned; a row for each subnet.

    Args:
        run: a trained and searched run.
        out: folder of the study.
        data_root: folder of the images; None: the recorded one.
        changes: changes to the recipe of the run for fine-tuning.
        n_finetuned: number of subnets to fine-tune.
        progress: called after every unit of work.
    """
    trained = TrainedRun.open(run, data_root=data_root)
    front = trained.run.search().read_csv(FRONT).sort_values("latency_ms")
    archs: list[Arch] = front["arch"].tolist()
    corners = [trained.space.largest, trained.space.smallest]
    metrics = trained.evaluator(split="test")([*archs, *corners], "study", progress=progress)
    files = export_subnets(trained, archs, progress=progress)
    recipe = parse_recipe(trained.run.read_text(RECIPE)).replace(changes or {})
    if data_root:
        recipe = recipe.replace({"data.root": str(data_root)})
    places = np.linspace(0, len(archs) - 1, min(n_finetuned, len(archs))).round().astype(int)
    tuned = {i: _finetuned(run, archs[i], recipe, out, progress) for i in dict.fromkeys(places.tolist())}
    rows = [
        {
            "model": arch.id,
            "inherited": metrics[i]["top1"],
            "finetuned": tuned[i]["accuracy"] if i in tuned else np.nan,
            "finetuning_seconds": tuned[i]["seconds"] if i in tuned else np.nan,
            "file": str(files[i].path),
        }
        for i, arch in enumerate(archs)
    ]
    facts = {
        "largest": metrics[-2]["top1"],
        "smallest": metrics[-1]["top1"],
    }
    replace_file(out / "supernet.json", json.dumps(facts))
    table = pd.DataFrame(rows)
    replace_file(out / FRONT_CSV, table.to_csv(index=False))
    return table


def _finetuned(run: Path, arch: Arch, recipe: Recipe, out: Path, progress: Progress) -> dict[str, Any]:
    def work() -> dict[str, Any]:
        tuned = finetune(run, arch, recipe, out / "finetuned" / arch.id, resume=True, progress=progress)
        (metrics,) = TrainedRun.open(tuned.path).evaluator(split="test")([arch], "study")
        return {"accuracy": metrics["top1"], "seconds": float(tuned.read_csv(SPEED)["seconds"].sum())}

    return once(out / "finetuned" / f"{arch.id}.json", work)


# ---------------------------------------------------------------------- comparison


def measure_latencies(out: Path, progress: Progress = silent) -> dict[str, float]:
    """Latency in ms of all models by name, measured in one session; an earlier measurement is reused."""
    files = {
        row["model"]: Path(row["file"])
        for table in (baselines(out), _front(out))
        for _, row in table.iterrows()
    }
    path = out / LATENCY_CSV
    if path.exists():
        known = pd.read_csv(path, dtype={"model": str}).set_index("model")["latency_ms"]
        if set(known.index) == set(files):
            return {str(name): float(value) for name, value in known.items()}
    rows = benchmark(list(files.values()), progress=progress)
    latencies = {name: row.latency_ms for name, row in zip(files, rows, strict=True)}
    replace_file(path, pd.DataFrame(latencies.items(), columns=["model", "latency_ms"]).to_csv(index=False))
    return latencies


def compare(out: Path, progress: Progress = silent) -> dict[str, Any]:
    """Compare the front with the other networks, and write the files of the result."""
    latencies = measure_latencies(out, progress)
    models, front = baselines(out), _front(out)
    models["latency_ms"], front["latency_ms"] = (t["model"].map(latencies) for t in (models, front))
    tuned = front.dropna(subset="finetuned")
    fronts = {"inherited": _points(front, "inherited"), "fine-tuned": _points(tuned, "finetuned")}
    reference = MARGIN * np.concatenate([*fronts.values(), _points(models, "accuracy")]).max(axis=0)
    others = hypervolume(_points(models, "accuracy"), reference)
    supernet = json.loads((out / "supernet.json").read_text(encoding="utf-8"))
    result = {
        "models": list(_rows(models, front)),
        "hypervolume_over_all_models": {
            name: hypervolume(points, reference) / others for name, points in fronts.items() if len(points)
        },
        "largest_percent": 100 * supernet["largest"],
        "smallest_percent": 100 * supernet["smallest"],
        "finetuning_hours": float(front["finetuning_seconds"].sum()) / 3600,
        **training_hours(out),
    }
    replace_file(out / RESULT, json.dumps(result, indent=1))
    replace_file(out / COMPARE_CSV, models[["model", "latency_ms", "accuracy"]].to_csv(index=False))
    replace_file(out / PLOT, _plot(models, front, tuned))
    return result


def _front(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / FRONT_CSV, dtype={"model": str})


def _points(table: pd.DataFrame, column: str) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Error and latency of each row, shape (n, 2); both are minimised."""
    return np.column_stack([1 - table[column].to_numpy(float), table["latency_ms"].to_numpy(float)])


def _rows(models: pd.DataFrame, front: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """A row for each model, with the best subnet that is not slower; NaN if all subnets are slower."""
    for _, model in models.sort_values("latency_ms").iterrows():
        row = {"model": model["model"], "ms": model["latency_ms"], "percent": 100 * model["accuracy"]}
        for column in ("inherited", "finetuned"):
            subnet = best_within(front.dropna(subset=column), column, model["latency_ms"])
            row[f"{column}_percent"] = None if subnet is None else 100 * subnet[column]
        yield row


def _plot(models: pd.DataFrame, front: pd.DataFrame, tuned: pd.DataFrame) -> str:
    def pairs(table: pd.DataFrame, column: str) -> list[tuple[float, float]]:
        return list(zip(table["latency_ms"], table[column], strict=True))

    fronts = {"subnets, inherited": pairs(front, "inherited")}
    if len(tuned):
        fronts["subnets, fine-tuned"] = pairs(tuned, "finetuned")
    return svg(fronts, {str(name): pairs(rows, "accuracy") for name, rows in models.groupby("family")})


def text(result: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    lines = ["| model | ms | accuracy | best subnet, not slower | fine-tuned |", "|---|---|---|---|---|"]
    for row in result["models"]:
        cells = [row["percent"], row["inherited_percent"], row["finetuned_percent"]]
        percents = ["-" if value is None else f"{value:.2f} %" for value in cells]
        lines.append(f"| {row['model']} | {row['ms']:.3f} | {' | '.join(percents)} |")
    lines.append("")
    for name, ratio in result["hypervolume_over_all_models"].items():
        lines.append(f"Hypervolume, {name} / all models: {ratio:.3f}")
    lines.append(
        f"Test accuracy: largest {result['largest_percent']:.2f} %, smallest "
        f"{result['smallest_percent']:.2f} %"
    )
    lines.append(
        f"Hours of training: supernet {result['supernet_hours']:.2f}, fine-tuning "
        f"{result['finetuning_hours']:.2f}; models {result['models_hours']:.2f}, their tuning "
        f"{result['models_tuning_hours']:.2f}"
    )
    return "\n".join(lines)


def main() -> None:
    """Run one part of the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    training = parts.add_parser("baselines", help="train the published networks")
    training.add_argument("--config", default="fashion-mnist", help="recipe of the supernet")
    training.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="changes to it")
    training.add_argument("--data-root", type=Path, required=True, help="folder of the images")
    training.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    training.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    training.add_argument("--quick", action="store_true", help="one width of each, one epoch")
    front = parts.add_parser("front", help="evaluate and fine-tune the front of a run")
    front.add_argument("run", type=Path, metavar="RUN")
    front.add_argument("--data-root", type=Path, help="folder of the images")
    front.add_argument("--finetuned", type=int, default=MAX_FINETUNED, help="number of subnets to fine-tune")
    comparison = parts.add_parser("compare", help="measure all latencies and compare")
    for part in (training, front, comparison):
        part.add_argument("--out", type=Path, required=True, help="folder of the study")
        part.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with shown() as progress:
        if options.part == "compare":
            result = compare(options.out, progress)
            print(json.dumps(result) if options.json else text(result))
            return
        work = _train_all if options.part == "baselines" else _evaluate_run
        table = work(options, progress)
    print(table.to_json(orient="records") if options.json else table.to_string(index=False))


def _train_all(options: argparse.Namespace, progress: Progress) -> pd.DataFrame:
    recipe = recipes.load(options.config, options.set).replace({"data.root": str(options.data_root)})
    widths = {name: FAMILIES[name].widths for name in options.families}
    study = Baselines(recipe, widths)
    if options.quick:
        narrow = {name: values[:1] for name, values in widths.items()}
        study = Baselines(recipe.replace({"epochs": 1}), narrow, (0.1,), (1e-4,), tuning_epochs=1)
    return train_baselines(study, options.out, torch.device(options.device), progress)


def _evaluate_run(options: argparse.Namespace, progress: Progress) -> pd.DataFrame:
    evaluate = partial(evaluate_front, options.run, options.out, data_root=options.data_root)
    return evaluate(changes=FINETUNING, n_finetuned=options.finetuned, progress=progress)


if __name__ == "__main__":
    main()
