"""The results of a bundle from its finished trials."""

from __future__ import annotations

from typing import Any

from hw_profiles.measuring.runner.bundle_files import SCHEMA_VERSION
from hw_profiles.measuring.runner.device_description import conditions, describe_device
from hw_profiles.measuring.runner.errors import RunnerError
from hw_profiles.measuring.runner.estimator import drift, robust_ms, split_half
from hw_profiles.measuring.runner.journal import Journal


def summarize(job: dict[str, Any], journal: Journal) -> dict[str, Any]:
    """The content of the results file.

    Args:
        job: the content of the job file.
        journal: all trials are finished.

    Raises:
        RunnerError: all models failed.
    """
    models = {model["id"]: model for model in job["models"] if model["id"] not in journal.failed}
    if not models:
        raise RunnerError("; ".join(dict.fromkeys(journal.failed.values())))
    trials = [trial for trial in journal.trials() if trial["model"] in models]
    times: dict[str, list[float]] = {name: [] for name in models}
    steady: dict[str, list[float]] = {name: [] for name in models}
    alone: dict[str, list[dict[str, Any]]] = {}
    n_slow = 0
    for trial in trials:
        name = trial["model"]
        times[name].append(trial["ms"])
        if journal.slow(name, trial["index"]):
            n_slow += 1
        else:
            steady[name].append(trial["ms"])
        if "alone" in trial:
            alone.setdefault(name, []).append(trial["alone"])
    always_slow = [name for name, steady_ms in steady.items() if not steady_ms]
    if 2 * len(always_slow) > len(steady):
        steady = times
    small = [times[name] for name, model in models.items() if not model["alone"]]
    sentinel = job["sentinel"]
    lines = [line for line in journal.lines if "ms" in line]
    seconds_of = dict.fromkeys(models, 0.0)
    for line in lines:
        if line["model"] in seconds_of:
            seconds_of[line["model"]] += line["seconds"]
    return {
        "schema_version": SCHEMA_VERSION,
        "bundle": journal.id,
        "device": describe_device(),
        "seconds": sum(line["seconds"] for line in lines),
        "seconds_of": seconds_of,
        "trials_ms": times,
        "latency_ms": {name: robust_ms(steady[name] or times[name]) for name in models},
        "alone": alone,
        "outputs": {line["model"]: line["outputs"] for line in journal.lines if "outputs" in line},
        "conditions": {name: _range([line["conditions"][name] for line in lines]) for name in conditions()},
        "best_speed_probe_ms": journal.best_speed_probe_ms,
        "always_slow": always_slow,
        "slow_share": n_slow / len(trials),
        "throttled_share": sum(trial["throttled"] > 0 for trial in trials) / len(trials),
        "failed": journal.failed,
        "sentinel_drift": drift(times[sentinel]) if sentinel else None,
        "split_half_spearman": split_half(small) if len(small) > 1 else None,
    }


def _range(values: list[float | None]) -> list[float] | None:
    known = [value for value in values if value is not None]
    return [min(known), max(known)] if known else None
