"""Prediction of the latency of networks from few measurements, on published data.

    python -m benchmarks.latency_fit --data CSV --target latency_2080ti_64_ms --train 20 50 --seeds 10 --json

`layers` is the model of the toolkit (`hw_profiles.latency_models.layerwise`). `ridge` is the baseline: ridge
regression on statistics of the network (MACs, parameters, activations, resolution, number of layers of each
kind). `ceiling` estimates the limit due to noise in the measurements: a regression by least relative
deviations on the costs of each kind of layer in each stage, fitted to 80 % of the subnets and tested on the
others.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import ofa_mbv3
from hw_profiles.latency_models.layerwise import LayerFit
from hw_profiles.latency_models.prediction_error import compare
from hw_profiles.latency_models.roofline import KINDS, TERMS, shapes, terms
from search_spaces import Block, BlockTable, Genomes, Space

Matrix = NDArray[np.float64]
Split = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Training rows and test rows."""
MODELS = ("layers", "ridge", "ceiling")
METRICS = ("spearman", "tau", "mape_percent")


class Measurements:
    """Subnets with measured latencies, and the features of the other models."""

    def __init__(self, space: Space, genomes: Genomes, latency_ms: Matrix) -> None:
        self.space, self.genomes, self.latency_ms = space, genomes, latency_ms
        self.statistics = _statistics(space, genomes)
        self.stage_costs = _stage_costs(space, genomes)

    def layers(self, train: NDArray[np.int64], test: NDArray[np.int64]) -> Matrix:
        """Predictions of the toolkit's model."""
        networks = [self.space.blocks(arch) for arch in self.space.decode(self.genomes[train])]
        model = LayerFit().fit(networks, self.latency_ms[train])
        return BlockTable(self.space, model.block_ms, model.intercept_ms)(self.genomes[test])

    def ridge(self, train: NDArray[np.int64], test: NDArray[np.int64]) -> Matrix:
        """Predictions of ridge regression; its penalty is selected by leave-one-out cross-validation."""
        model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13)))
        predicted: Matrix = model.fit(self.statistics[train], self.latency_ms[train]).predict(
            self.statistics[test]
        )
        return predicted

    def ceiling(self, train: NDArray[np.int64], test: NDArray[np.int64]) -> Matrix:
        """Predictions of least relative deviations, by iteratively reweighted least squares."""
        relative = self.stage_costs[train] / self.latency_ms[train, None]
        weights = np.ones((len(train), 1))
        for _ in range(40):
            costs = np.linalg.lstsq(relative * weights, weights[:, 0], rcond=1e-9)[0]
            weights = 1 / np.sqrt(np.maximum(np.abs(relative @ costs - 1), 0.002))[:, None]
        return self.stage_costs[test] @ costs

    def evaluate(self, model: str, train: NDArray[np.int64], test: NDArray[np.int64]) -> tuple[float, ...]:
        """`METRICS` of one model."""
        error = compare(getattr(self, model)(train, test), self.latency_ms[test])
        return error.spearman, error.kendall_tau, 100 * error.mape


def _statistics(space: Space, genomes: Genomes) -> Matrix:
    values: list[Callable[[Block], float]] = [
        lambda block: block.macs,
        lambda block: block.params,
        lambda block: sum(node.output.numel for node in block.nodes if not node.op.in_place),
        *(partial(_count, kind) for kind in KINDS),
    ]
    columns = [BlockTable(space, value)(genomes) for value in values]
    resolution = np.array(space.resolutions)[genomes[:, space.columns(["resolution"])[0]]]
    return _varying(np.column_stack([*columns, resolution]))


def _count(kind: str, block: Block) -> float:
    return sum(shape.kind == kind for shape in shapes(block))


def _stage_costs(space: Space, genomes: Genomes) -> Matrix:
    """Sums of each term over the layers of each stage, and a constant 1."""
    stages = np.array([-1 if slot.stage is None else slot.stage for slot in space.slots])
    columns = []
    for term in range(len(TERMS)):
        slots = BlockTable(space, partial(_term, term)).per_slot(genomes)
        columns += [slots[:, stages == stage].sum(axis=1) for stage in np.unique(stages)]
    return np.column_stack([np.ones(len(genomes)), _varying(np.column_stack(columns))])


def _term(term: int, block: Block) -> float:
    return float(sum(terms(shape)[term] for shape in shapes(block)))


def _varying(columns: Matrix) -> Matrix:
    """The columns that are not constant, standardized."""
    columns = columns[:, np.ptp(columns, axis=0) > 0]
    result: Matrix = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    return result


def split(n: int, n_train: int, seed: int) -> Split:
    """Random training rows, and all other rows."""
    order = np.random.default_rng(seed).permutation(n)
    return order[:n_train], order[n_train:]


def measure(data: Measurements, train: Sequence[int], seeds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Mean and standard deviation over seeds of each metric, by number of training subnets and model."""
    n = len(data.latency_ms)
    ceiling = [data.evaluate("ceiling", *split(n, n * 4 // 5, seed)) for seed in range(seeds)]
    results = {}
    for n_train in train:
        splits = [split(n, n_train, seed) for seed in range(seeds)]
        runs = {model: [data.evaluate(model, *each) for each in splits] for model in MODELS[:2]}
        results[str(n_train)] = {
            model: _summary(scores) for model, scores in {**runs, "ceiling": ceiling}.items()
        }
    return results


def _summary(scores: Sequence[tuple[float, ...]]) -> dict[str, float]:
    mean, std = np.mean(scores, axis=0).round(4), np.std(scores, axis=0).round(4)
    return dict(zip(METRICS, mean.tolist(), strict=True)) | {
        f"{metric}_std": value for metric, value in zip(METRICS, std.tolist(), strict=True)
    }


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, help="CSV with ks0..ks19, e0..e19, d0..d4, resolution")
    parser.add_argument("--target", required=True, help="column with the measured latency in ms")
    parser.add_argument("--space", default="ofa-mbv3-w1.2", help="the OFA MobileNetV3 space of the subnets")
    parser.add_argument("--train", type=int, nargs="+", default=[20, 50], help="measured subnets")
    parser.add_argument("--seeds", type=int, default=10, help="random splits")
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    options = parser.parse_args()
    make = partial(ofa_mbv3.shipped, options.space)
    results = measure(
        Measurements(*ofa_mbv3.read(options.data, options.target, make)), options.train, options.seeds
    )
    for n_train, models in results.items():
        for model, scores in models.items():
            shown = ", ".join(
                f"{metric} {scores[metric]:.3f} ± {scores[f'{metric}_std']:.3f}" for metric in METRICS
            )
            print(f"{model:8} {n_train:>4} measured subnets: {shown}")
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
