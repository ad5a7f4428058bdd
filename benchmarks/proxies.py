"""Zero-cost proxies on a trained run: what each costs, and what it adds to the default predictor.

    python -m benchmarks.proxies RUN --train 50 100 --json

τ is measured on evaluated subnets of the run that the predictor was not fitted to; `chosen` is the predictor
with the proxies that cross-validation on the training subnets keeps.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from nas.evaluation.proxies import PROXIES, ProxyColumns
from nas.evaluation.trained_run import TrainedRun
from predictors import PREDICTORS, Features, MetricModel, keep_helpful, tau
from search_spaces import Genomes

METRIC = "cross_entropy"
NAME, FACTORY = next(iter(PREDICTORS.items()))
Values = np.ndarray[tuple[int], np.dtype[np.float64]]


Choose = Callable[[Genomes, Values], Features]
"""Makes the features from the training subnets and their metric."""


def held_out_tau(choose: Choose, genomes: Genomes, values: Values, n: int, seed: int) -> float:
    """Kendall's τ on what is left after `n` random training subnets."""
    order = np.random.default_rng(seed).permutation(len(values))
    train, rest = order[:n], order[n:]
    features = choose(genomes[train], values[train])
    model = MetricModel.fit(METRIC, NAME, FACTORY, features, genomes[train], values[train], seed)
    return tau(model.predict(genomes[rest]), values[rest])


def _with(features: Features, *_: object) -> Features:
    return features


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", help="directory of a trained run with evaluated subnets")
    parser.add_argument("--subnets", type=int, default=240, help="evaluated subnets to use")
    parser.add_argument("--train", type=int, nargs="+", default=[50, 100], help="training subnets")
    parser.add_argument("--seeds", type=int, default=8, help="random splits")
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    options = parser.parse_args()
    trained = TrainedRun.open(options.run)
    known = trained.archive.frame("validation", trained.evaluator().calibration.key)
    known = known.sample(min(options.subnets, len(known)), random_state=0)
    space = trained.space
    genomes = space.encode(known["arch"])
    values = known[METRIC].to_numpy(dtype=np.float64)
    columns = ProxyColumns(trained.supernet, trained.dataset, trained.task).columns()
    results: dict[str, dict[str, float]] = {}
    for name in PROXIES:
        start = time.process_time()
        alone = abs(tau(columns[name](genomes), values))
        milliseconds = 1000 * (time.process_time() - start) / len(genomes)
        results[name] = {"alone": round(alone, 4), "ms_per_subnet": round(milliseconds, 1)}
    candidates: dict[str, Choose] = {
        "none": lambda *_: Features(space),
        **{name: partial(_with, Features(space, {name: columns[name]})) for name in PROXIES},
        "chosen": lambda rows, metric: keep_helpful(space, columns, rows, metric, FACTORY, seed=0),
    }
    for n in options.train:
        for name, choose in candidates.items():
            taus = [held_out_tau(choose, genomes, values, n, seed) for seed in range(options.seeds)]
            results.setdefault(name, {})[str(n)] = round(float(np.mean(taus)), 4)
            print(f"{name:12} {n:5} training subnets: tau {np.mean(taus):.3f}", results[name])
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
