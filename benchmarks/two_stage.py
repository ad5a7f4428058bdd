"""Hypervolume of a search in two stages, relative to a search in one stage that takes equally long.

    python -m benchmarks.two_stage RUN --screen-images 60 135 --seeds 5 --json

The first stage of a search in two stages evaluates all subnets on a part of the validation images. The second
stage evaluates the front and the subnets near it on all validation images (`nas search --screen-images`). A
search in one stage evaluates fewer subnets, each on all images. Both read equally many images, calibration
images included. The objectives are the primary metric and MACs. The hypervolume of the final front is
computed on the validation images, on which the front was selected, and on the test images. If there are few
validation images, calibration is the larger part of an evaluation; `--calibration-images` sets its size.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nas.evaluation.archive import Archive
from nas.evaluation.calibration import Calibration
from nas.evaluation.trained_run import TrainedRun
from nas.progress import Progress, shown
from nas.report.final_test import CHOSEN, final_test
from nas.search.problem.hypervolume import hypervolume
from nas.search.problem.objectives import CostObjective, MetricObjective
from nas.search.problem.problem import Problem
from nas.search.search_loop import search
from nas.search.search_result import SearchResult
from nas.search.two_stage import n_full, second_stage
from search_spaces.costs import macs_table


def main() -> None:
    """Search and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--screen-images", type=int, nargs="+", default=[60, 135])
    parser.add_argument("--calibration-images", type=int, default=128)
    parser.add_argument("--budget", type=int, default=100, help="evaluations of the search in one stage")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    trained = TrainedRun.open(options.run)
    with tempfile.TemporaryDirectory() as folder, shown() as progress:
        trained = replace(trained, archive=Archive(Path(folder) / "archive.sqlite"))
        study = Study(trained, Calibration(images=options.calibration_images), options.budget, progress)
        seeds = range(options.seeds)
        one = [study.one_stage(seed) for seed in seeds]
        result = {
            f"{n} images": _summary([study.two_stages(seed, n) for seed in seeds], one)
            | {"evaluations": study.evaluations(n)}
            for n in options.screen_images
        }
    print(json.dumps(result) if options.json else "\n".join(f"{k}: {v}" for k, v in result.items()))


Volumes = tuple[float, float]
"""Hypervolume on the validation and on the test images."""


class Study:
    """Searches of a run in one stage and in two stages that take equally long."""

    def __init__(
        self, trained: TrainedRun, calibration: Calibration, budget: int, progress: Progress
    ) -> None:
        self._trained, self._calibration, self._budget = trained, calibration, budget
        self._progress = progress
        task, space = trained.task, trained.space
        self._metric = task.primary.metric
        self._problem = Problem(
            space,
            [
                MetricObjective(task.primary_objective, self._metric),
                CostObjective("macs", macs_table(space)),
            ],
        )

    def evaluations(self, screen_images: int) -> int:
        """Number of evaluations of the first stage, so that both searches read equally many images."""
        calibration = int(self._calibration.key.split(":")[1])
        whole = len(self._trained.dataset.split("validation")) + calibration
        part = screen_images + calibration
        n = self._budget
        while (n + 1) * part + n_full(n + 1) * whole <= self._budget * whole:
            n += 1
        while n * part + n_full(n) * whole > self._budget * whole:
            n -= 1
        return n

    def one_stage(self, seed: int) -> Volumes:
        """The search in one stage."""
        return self._volumes(self._search(self._trained, self._budget, seed))

    def two_stages(self, seed: int, screen_images: int) -> Volumes:
        """The search in two stages."""
        part = self._trained.with_validation_images(screen_images)
        part = replace(part, archive=Archive(self._trained.archive.path, f"part {screen_images}"))
        screened = self._search(part, self.evaluations(screen_images), seed)
        evaluate = partial(self._trained.evaluator(calibration=self._calibration), progress=self._progress)
        return self._volumes(second_stage(screened, evaluate, "search", None))

    def _search(self, trained: TrainedRun, budget: int, seed: int) -> SearchResult:
        evaluate = partial(trained.evaluator(calibration=self._calibration), progress=self._progress)
        return search(self._problem, evaluate, budget=budget, seed=seed)

    def _volumes(self, result: SearchResult) -> Volumes:
        test = final_test(self._trained, result.front["arch"].tolist(), progress=self._progress)
        chosen = test[test["group"] == CHOSEN].merge(result.front[["arch_id", "macs"]], on="arch_id")
        points = chosen[[self._metric, "macs"]].to_numpy(dtype=np.float64)
        return result.hypervolume, hypervolume(points, result.reference)


def _summary(two: Sequence[Volumes], one: Sequence[Volumes]) -> dict[str, Any]:
    """Mean ratio of the hypervolumes and its standard error, for each of the image sets."""
    ratios = np.array(two) / np.array(one)
    error = ratios.std(axis=0, ddof=1) / np.sqrt(len(ratios))
    return {
        name: {
            "ratio": round(float(ratios[:, i].mean()), 4),
            "standard_error": round(float(error[i]), 4),
            "each": np.round(ratios[:, i], 4).tolist(),
        }
        for i, name in enumerate(("validation", "test"))
    }


if __name__ == "__main__":
    main()
