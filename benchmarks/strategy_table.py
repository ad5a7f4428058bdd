"""Figures of `benchmarks.training_strategies`: means, Kendall's tau and differences, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictors import agreement
from predictors.correlation import tau

SIZES = ("smallest", "median", "largest")
RESAMPLES = 1000
Measured = Mapping[str, Any]
"""Results of one training: milliseconds per step, and metrics of the subnets of each kind."""
Losses = NDArray[np.float64]
"""Cross-entropies, shape (seeds, subnets)."""


def summary(
    measured: Mapping[str, Sequence[Measured]], scratch: Mapping[str, Losses], reference: str
) -> list[dict[str, Any]]:
    """A row of figures for each strategy.

    Args:
        measured: results of each strategy for each seed.
        scratch: losses of the subnets `spread` and `alike` when trained from scratch.
        reference: the strategy to which the others are compared.
    """
    return [_row(name, measured[name], measured[reference], scratch) for name in measured]


def _row(
    name: str, seeds: Sequence[Measured], reference: Sequence[Measured], scratch: Mapping[str, Losses]
) -> dict[str, Any]:
    corners = np.array([[m["top1"] for m in seed["corners"]] for seed in seeds]).mean(axis=0)
    row: dict[str, Any] = {"strategy": name}
    row |= {f"top1_{size}": float(top1) for size, top1 in zip(SIZES, corners, strict=True)}
    row["loss_random"] = float(losses(seeds, "random").mean())
    row["loss_random_difference"] = paired(losses(seeds, "random"), losses(reference, "random"), np.mean)
    for kind, scratch_losses in scratch.items():
        target = scratch_losses.mean(axis=0)
        result = agreement(losses(seeds, kind).mean(axis=0), target, np.random.default_rng(0), RESAMPLES)
        row[f"tau_{kind}"] = [result.tau, result.low, result.high]
        row[f"tau_{kind}_ceiling"] = tau(*scratch_losses[:2])
        row[f"tau_{kind}_difference"] = paired(losses(seeds, kind), losses(reference, kind), tau, target)
    row["ms_per_step"] = float(np.median([seed["ms_per_step"] for seed in seeds]))
    return row


def losses(seeds: Sequence[Measured], kind: str) -> Losses:
    """Cross-entropies of the subnets of one kind, shape (seeds, subnets)."""
    return np.array([[m["cross_entropy"] for m in seed[kind]] for seed in seeds])


def paired(
    ours: Losses, theirs: Losses, figure: Callable[..., Any], *target: NDArray[np.float64]
) -> list[float]:
    """Difference of a figure between two strategies, with the bounds of its 95 % bootstrap interval.

    Both seeds and subnets are resampled, so that the interval covers the variance of both.

    Args:
        ours: losses of a strategy, shape (seeds, subnets).
        theirs: losses of the other strategy, with the same seeds and subnets.
        figure: function of the losses of each subnet, averaged over seeds, and of `target`.
        target: further arguments of `figure`, one value per subnet.
    """

    def difference(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> float:
        parts = [values[columns] for values in target]
        ours_, theirs_ = (x[rows][:, columns].mean(axis=0) for x in (ours, theirs))
        return float(figure(ours_, *parts) - figure(theirs_, *parts))

    rng = np.random.default_rng(0)
    n_seeds, n_subnets = ours.shape
    drawn = [
        difference(rng.integers(0, n_seeds, size=(n_seeds,)), rng.integers(0, n_subnets, size=(n_subnets,)))
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return [difference(np.arange(n_seeds), np.arange(n_subnets)), float(low), float(high)]


def verdict(difference: Sequence[float], *, lower_is_better: bool = False) -> str:
    """`better`, `worse`, or `tied` if the interval of the difference includes 0."""
    _, low, high = difference
    if low <= 0 <= high:
        return "tied"
    return "better" if (low > 0) != lower_is_better else "worse"


def table(result: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    head = (
        "| strategy | top-1 smallest | median | largest | loss, 100 random | τ spread | τ alike | ms/step |",
        "|---|---|---|---|---|---|---|---|",
    )
    rows = result["strategies"]
    lines = [*head, *map(_line, rows)]
    ceilings = ", ".join(f"{kind} {rows[0][f'tau_{kind}_ceiling']:.2f}" for kind in ("spread", "alike"))
    return (
        f"Validation figures, means over the seeds {result['seeds']}; each strategy had the passes of "
        f"{result['epochs']} epochs of the first. In brackets 95 % intervals, and whether the difference to "
        f"the first is beyond chance. Ceiling of τ, between two trainings from scratch: {ceilings}.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def _line(row: Mapping[str, Any]) -> str:
    top1 = [f"{100 * row[f'top1_{size}']:.1f}" for size in SIZES]
    loss = f"{row['loss_random']:.4f} ({verdict(row['loss_random_difference'], lower_is_better=True)})"
    taus = [
        "{:.2f} [{:.2f}, {:.2f}]".format(*row[f"tau_{kind}"]) + f" ({verdict(row[f'tau_{kind}_difference'])})"
        for kind in ("spread", "alike")
    ]
    cells = [row["strategy"], *top1, loss, *taus, f"{row['ms_per_step']:.0f}"]
    return f"| {' | '.join(cells)} |"
