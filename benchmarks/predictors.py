"""Kendall's τ and errors of predictors on held-out subnets of published data.

    python -m benchmarks.predictors --data CSV --target imagenet_top1_percent --train 100 200 --json
    python -m benchmarks.predictors --objective PATH --train 100 200 400 --json

PATH is a file as in `search_methods.py`; 1000 random subnets are held out. `default` is the predictor that
the toolkit selects by cross-validation on the training subnets.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import numpy as np

from benchmarks import ofa_mbv3
from predictors import CANDIDATES, PREDICTORS, Features, MetricModel, fit_best, tau
from search_spaces import Genomes

Scores = dict[str, dict[str, dict[str, float]]]
N_HELD_OUT = 1000


def measure(
    features: Features,
    genomes: Genomes,
    values: np.ndarray[tuple[int], np.dtype[np.float64]],
    n: int,
    seed: int,
    predictors: Sequence[str],
) -> dict[str, tuple[float, float]]:
    """Kendall's τ and mean absolute percentage error of each predictor, fitted to `n` of the subnets."""
    order = np.random.default_rng(seed).permutation(len(values))
    train, test = order[:n], order[n:]
    models = {
        name: MetricModel.fit("target", name, PREDICTORS[name], features, genomes[train], values[train], seed)
        for name in predictors
    }
    models["default"], _ = fit_best("target", features, genomes[train], values[train], seed=seed)
    scores = {}
    for name, model in models.items():
        predicted = model.predict(genomes[test])
        error = np.mean(np.abs(predicted - values[test]) / np.abs(values[test]))
        scores[name] = (tau(predicted, values[test]), 100 * float(error))
    return scores


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", help="CSV with ks0..ks19, e0..e19, d0..d4, resolution")
    source.add_argument("--objective", help="Python file with an accuracy to predict")
    parser.add_argument("--target", help="column of the CSV to predict")
    parser.add_argument("--train", type=int, nargs="+", default=[100, 200], help="training subnets")
    parser.add_argument("--seeds", type=int, default=10, help="random splits")
    parser.add_argument(
        "--predictors",
        nargs="*",
        choices=PREDICTORS,
        default=list(CANDIDATES),
        help="predictors in addition to `default`",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    options = parser.parse_args()
    if options.objective:
        space = ofa_mbv3.space()
        genomes = space.sample(np.random.default_rng(0), N_HELD_OUT + max(options.train))
        values = ofa_mbv3.objective(options.objective).accuracy(ofa_mbv3.flat(space, genomes))
    elif options.target:
        space, genomes, values = ofa_mbv3.read(options.data, options.target)
    else:
        parser.error("--data needs a --target")
    features = Features(space)
    results: Scores = {name: {} for name in ("default", *options.predictors)}
    for n in options.train:
        runs = [
            measure(features, genomes, values, n, seed, options.predictors) for seed in range(options.seeds)
        ]
        for name, result in results.items():
            mean_tau, mape = np.mean([run[name] for run in runs], axis=0)
            result[str(n)] = {"tau": round(mean_tau, 4), "mape_percent": round(mape, 4)}
            print(f"{name:20} {n:5} training subnets: tau {mean_tau:.3f}, MAPE {mape:.3f} %")
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
