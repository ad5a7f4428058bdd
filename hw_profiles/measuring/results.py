"""The results of a bundle, from the runner or from another tool."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ValidationError

from hw_profiles.csv_tables import read_table
from hw_profiles.latency_models.prediction_error import Latencies
from hw_profiles.measuring.bundle import Job
from hw_profiles.measuring.runner.bundle_files import SCHEMA_VERSION
from search_spaces.errors import first_names, one_line
from search_spaces.text_files import read_text

CSV_COLUMNS = ("model_id", "latency_ms")


class AloneFigures(BaseModel, frozen=True):
    """Figures of one model alone in a fresh process, ms."""

    latency_ms: float
    """The robust estimate that tables are calibrated to, see `hw_profiles.measuring.runner.estimator`."""
    min_ms: float
    """Shortest run by the wall clock, like the median and the 90th percentile."""
    median_ms: float
    p90_ms: float
    runs: int
    clock: Literal["cpu", "wall"] = "wall"
    """How `latency_ms` is measured: `cpu` is the CPU time of the thread that does all the work, which
    excludes other processes; `wall` is the wall clock."""
    throttled: int = 0
    """Number of periods in which a CPU quota stopped the process."""
    energy_mj: float | None = None
    """Energy of one run above idle; None if it was not measured or the device has no counter."""
    energy_counter: str | None = None

    @classmethod
    def single(cls, latency_ms: float) -> Self:
        """Figures from a tool that reports one latency."""
        return cls(latency_ms=latency_ms, min_ms=latency_ms, median_ms=latency_ms, p90_ms=latency_ms, runs=1)


class Conditions(BaseModel, frozen=True):
    """Lowest and highest value over all trials; None if the system does not report it."""

    temperature_c: tuple[float, float] | None = None
    mhz: tuple[float, float] | None = None
    load: tuple[float, float] | None = None


class Results(BaseModel, frozen=True):
    """`results.json`: the results of the runner."""

    schema_version: int = SCHEMA_VERSION
    bundle: str
    device: dict[str, str | int | float | None]
    """See `hw_profiles.measuring.runner.device_description`; nearly empty if a tool measured."""
    seconds: float
    seconds_of: dict[str, float] = {}
    """Seconds by model; empty if a tool measured."""
    trials_ms: dict[str, list[float]]
    """Latencies of the trials by model; a tool may report fewer trials than planned, but at least one."""
    latency_ms: dict[str, float]
    """Robust estimate over the trials of each model."""
    alone: dict[str, list[AloneFigures]]
    """Figures of the trials by model, for models that are timed alone."""
    outputs: dict[str, list[list[float]]] = {}
    """Output for each image by model, for models with images."""
    conditions: Conditions = Conditions()
    best_speed_probe_ms: float | None = None
    """The fastest speed probe, see `hw_profiles.measuring.runner`; None if a tool measured."""
    always_slow: list[str] = []
    """Models for which the processor was slow in all trials: their latencies may be too high."""
    slow_share: float = 0.0
    """Share of trials in which the processor was slow, even after repeats."""
    throttled_share: float = 0.0
    """Share of trials in which a CPU quota stopped the process, even after repeats."""
    failed: dict[str, str] = {}
    """Reasons by model, for models that could not be measured; only if the job has `keep_going`."""
    sentinel_drift: float | None = None
    split_half_spearman: float | None = None

    def alone_latency(self, name: str, nth: int = 0, passes: int = 1) -> AloneFigures | None:
        """Latency of a model run alone: the lower quartile over the trials of one pass.

        With up to four trials this is the fastest one. See `hw_profiles.measuring.bundle.HEAVY_BYTES`.

        Args:
            name: id of the model.
            nth: number of the pass. The passes are interleaved: pass i has the trials i, i + passes, ...
            passes: number of passes.

        Returns:
            None if there are fewer trials than passes.
        """
        trials = sorted(self.alone[name][nth::passes], key=lambda figures: figures.latency_ms)
        return trials[(len(trials) - 1) // 4] if trials else None

    def alone_ms(self, names: Iterable[str], nth: int = 0, passes: int = 1) -> Latencies | None:
        """The `alone_latency` of several models in ms, shape (n,); None if one of them is None."""
        figures = [self.alone_latency(name, nth, passes) for name in names]
        latencies = [alone.latency_ms for alone in figures if alone]
        return np.array(latencies) if len(latencies) == len(figures) else None

    @classmethod
    def of_tool(
        cls,
        job: Job,
        trials_ms: dict[str, list[float]],
        runtime: str,
        seconds: float,
        failed: Mapping[str, str] | None = None,
    ) -> Self:
        """The results of a tool other than the runner: whole networks, one latency for each trial.

        Args:
            job: the job.
            trials_ms: latencies by model, in ms.
            runtime: name of the tool.
            seconds: how long the measurement took.
            failed: reasons by model, for models that the tool could not measure.
        """
        return cls(
            bundle=job.id,
            device={"runtime": runtime, "version": "unknown"},
            seconds=seconds,
            trials_ms=trials_ms,
            latency_ms={name: float(np.median(ms)) for name, ms in trials_ms.items()},
            alone={name: [AloneFigures.single(value) for value in ms] for name, ms in trials_ms.items()},
            failed=dict(failed or {}),
        )


def read_results(path: Path, job: Job) -> Results:
    """The results of a job, from the runner's `results.json` or from a CSV `model_id,latency_ms`.

    Raises:
        ValueError: the results are missing, truncated, or of another bundle.
    """
    try:
        return _of_csv(path, job) if path.suffix == ".csv" else _of_json(path, read_text(path), job)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}; run the bundle's runner again") from None


def _of_json(path: Path, content: str, job: Job) -> Results:
    try:
        results = Results.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(f"{one_line(error, str(path))}; run the bundle's runner again") from None
    if results.bundle != job.id:
        raise ValueError(f"{path} holds the results of another bundle")
    done = {name: len(trials) for name, trials in results.trials_ms.items()}
    missing = [m.id for m in job.models if m.id not in results.failed and done.get(m.id) != m.n_trials]
    if missing:
        raise ValueError(
            f"{path} is incomplete, it lacks trials of {first_names(missing, 3)}; "
            "run the bundle's runner again"
        )
    return results


def _of_csv(path: Path, job: Job) -> Results:
    """Results from a table; several rows of one model are its trials."""
    table = read_table(path, CSV_COLUMNS, comment="#")
    ids = table["model_id"].astype(str).str.removesuffix(".onnx")
    times = pd.to_numeric(table["latency_ms"], errors="coerce")
    wrong = table[~(np.isfinite(times) & (times > 0))]
    if len(wrong):
        raise ValueError(
            f"{path}, line {wrong.index[0]}: latency_ms must be a positive number such as 1.25, which "
            f"{first_names(ids[wrong.index], 3)} lacks, got {wrong['latency_ms'].iloc[0]}"
        )
    alone = [model.id for model in job.models if model.alone]
    unknown = sorted(set(ids) - {model.id for model in job.models})
    if unknown:
        raise ValueError(
            f"{path} holds the results of another bundle: this one has no {first_names(unknown, 3)}"
        )
    missing = sorted(set(alone) - set(ids))
    if missing:
        raise ValueError(
            f"{path} must have a row for each of {len(alone)} models, it lacks {first_names(missing, 3)}"
        )
    trials = {name: times[ids == name].tolist() for name in alone}
    return Results.of_tool(job, trials, "unknown", 0.0)
