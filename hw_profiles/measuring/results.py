"""What a device measured, as the runner or another tool brings it back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ValidationError

from hw_profiles.csv_tables import read_table
from hw_profiles.latency_models.prediction_error import Latencies
from hw_profiles.measuring.bundle import SCHEMA_VERSION, Job
from search_spaces.errors import one_line
from search_spaces.text_files import read_text

CSV_COLUMNS = ("model_id", "latency_ms")
_NAMED = 3


class AloneFigures(BaseModel, frozen=True):
    """One model alone in a fresh process, ms."""

    latency_ms: float
    """The robust figure that tables are calibrated to (see `hw_profiles.measuring.runner`)."""
    min_ms: float
    """By the wall clock, as the median and the 90th percentile."""
    median_ms: float
    p90_ms: float
    runs: int
    clock: Literal["cpu", "wall"] = "wall"
    """What `latency_ms` is taken with: the CPU time of the thread that does all the work, which leaves out
    other processes, or the wall clock."""
    throttled: int = 0
    """Periods in which a CPU quota stopped the process."""
    energy_mj: float | None = None
    """Of one run above that of waiting; None where it was not asked for or the device has no counter."""
    energy_counter: str | None = None

    @classmethod
    def single(cls, latency_ms: float) -> Self:
        """From a tool that tells one figure."""
        return cls(latency_ms=latency_ms, min_ms=latency_ms, median_ms=latency_ms, p90_ms=latency_ms, runs=1)


class Conditions(BaseModel, frozen=True):
    """Lowest and highest value over all trials; None where the system does not say."""

    temperature_c: tuple[float, float] | None = None
    mhz: tuple[float, float] | None = None
    load: tuple[float, float] | None = None


class Results(BaseModel, frozen=True):
    """`results.json`: what the runner measured."""

    schema_version: int = SCHEMA_VERSION
    bundle: str
    device: dict[str, str | int | float | None]
    """See `hw_profiles.measuring.runner.device`; empty where a tool does not tell."""
    seconds: float
    seconds_of: dict[str, float] = {}
    """The same by model; a tool does not tell."""
    trials_ms: dict[str, list[float]]
    """Of each model, by round; a tool may have fewer trials than were wanted, but one at least."""
    latency_ms: dict[str, float]
    """Of each model, the robust figure over its trials."""
    alone: dict[str, list[AloneFigures]]
    """Of each model that is timed alone, by round."""
    outputs: dict[str, list[list[float]]] = {}
    """Of each model with images: what it answers to each."""
    conditions: Conditions = Conditions()
    best_speed_probe_ms: float | None = None
    """The fastest speed probe, see `hw_profiles.measuring.runner`; None if a tool measured."""
    always_slow: list[str] = []
    """Models whose trials all saw slow moments of the processor: their latencies may be too high."""
    slow_share: float = 0.0
    """Share of trials that saw slow moments of the processor alone, however often they were repeated."""
    throttled_share: float = 0.0
    """Share of trials in which a CPU quota stopped the process, however often they were repeated."""
    failed: dict[str, str] = {}
    """Reasons of models that could not be measured, where the job says to keep going."""
    sentinel_drift: float | None = None
    split_half_spearman: float | None = None

    def alone_latency(self, name: str, nth: int = 0, passes: int = 1) -> AloneFigures | None:
        """What a model takes alone: the trial at the lower quartile in one of several interleaved passes.

        That is the fastest of up to four; `bundle.HEAVY_BYTES` says why it is this one. None where
        there were fewer trials than passes.
        """
        trials = sorted(self.alone[name][nth::passes], key=lambda figures: figures.latency_ms)
        return trials[(len(trials) - 1) // 4] if trials else None

    def alone_ms(self, names: Iterable[str], nth: int = 0, passes: int = 1) -> Latencies | None:
        """The latency that `told` gives for each of several models, shape (n,); None where one has none."""
        figures = [self.alone_latency(name, nth, passes) for name in names]
        known = [told.latency_ms for told in figures if told]
        return np.array(known) if len(known) == len(figures) else None

    @classmethod
    def of_tool(
        cls,
        job: Job,
        trials_ms: dict[str, list[float]],
        runtime: str,
        seconds: float,
        failed: Mapping[str, str] | None = None,
    ) -> Self:
        """What another tool than the runner told: whole networks, one figure for each trial.

        Args:
            job: what was to be measured.
            trials_ms: by model, in ms.
            runtime: the tool.
            seconds: how long it took.
            failed: reasons of the models that it could not measure.
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
        ValueError: they are missing, truncated, or of another bundle.
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
            f"{path} is not whole, it lacks trials of {_some(missing)}; run the bundle's runner again"
        )
    return results


def _of_csv(path: Path, job: Job) -> Results:
    """A table that a person or another tool wrote; several rows of one model are its trials."""
    table = read_table(path, CSV_COLUMNS, comment="#")
    ids = table["model_id"].astype(str).str.removesuffix(".onnx")
    times = pd.to_numeric(table["latency_ms"], errors="coerce")
    wrong = table[~(np.isfinite(times) & (times > 0))]
    if len(wrong):
        raise ValueError(
            f"{path}, line {wrong.index[0]}: latency_ms must be a positive number such as 1.25, which "
            f"{_some(ids[wrong.index])} lacks, got {wrong['latency_ms'].iloc[0]}"
        )
    alone = [model.id for model in job.models if model.alone]
    unknown = sorted(set(ids) - {model.id for model in job.models})
    if unknown:
        raise ValueError(f"{path} holds the results of another bundle: this one has no {_some(unknown)}")
    missing = sorted(set(alone) - set(ids))
    if missing:
        raise ValueError(f"{path} must have a row for each of {len(alone)} models, it lacks {_some(missing)}")
    trials = {name: times[ids == name].tolist() for name in alone}
    return Results.of_tool(job, trials, "unknown", 0.0)


def _some(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    listed = list(names)
    return ", ".join(listed[:_NAMED]) + (f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else "")
