"""A bundle on a device: what is measured, in which order, and how."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from typing import Any

import numpy as np

from hw_profiles.measuring.runner.bundle_files import JOB, LOCK, RESULTS, SCHEMA_VERSION, TRIALS
from hw_profiles.measuring.runner.errors import RunnerError
from hw_profiles.measuring.runner.estimator import BLOCK_SESSION_SECONDS
from hw_profiles.measuring.runner.journal import Journal
from hw_profiles.measuring.runner.lock import locked
from hw_profiles.measuring.runner.model import Model
from hw_profiles.measuring.runner.summary import summarize
from hw_profiles.measuring.runner.weights import write_weights


class Bundle:
    """A folder with models and a job.

    Args:
        folder: the folder.
        script: the file of the runner, which is started again for each model that is timed alone.

    Raises:
        RunnerError: there is no job, or it is incomplete or of another version.
    """

    def __init__(self, folder: str, script: str = "") -> None:
        self.folder, self.script = folder, script
        try:
            with open(self.file(JOB), encoding="utf-8") as file:
                self.job = json.load(file)
        except (OSError, ValueError) as error:
            raise RunnerError(f"cannot read {self.file(JOB)}: {error}") from None
        if self.job["schema_version"] != SCHEMA_VERSION:
            raise RunnerError(f"{self.file(JOB)} is of another version; use the runner that came with it")
        self.id: str = self.job["id"]
        self.models = {model["id"]: model for model in self.job["models"]}

    def file(self, name: str) -> str:
        """Path of a file of the bundle."""
        return os.path.join(self.folder, name)

    def model(self, name: str) -> Model:
        """One of the models; the shared constants are written first if needed."""
        self.write_weights()
        entry = self.models[name]
        return Model(self.file(entry["file"]), self.job, entry["shapes"], entry["label"], entry["layers"])

    def write_weights(self) -> None:
        """Write the constants that the models share, unless the file exists."""
        weights = self.job["weights"]
        if weights and not os.path.exists(self.file(weights["file"])):
            write_weights(self.file(weights["file"]), weights)

    def journal(self) -> Journal:
        """The finished trials of the bundle."""
        return Journal(self.file(TRIALS), self.id, self.job["best_speed_probe_ms"])

    def plan(self) -> list[tuple[str, int]]:
        """All trials as (model id, index) in the order of execution.

        For each model, the time is divided into `n_trials` equal parts, with one trial at a random moment of
        each part.
        """
        rng = random.Random(self.job["seed"])
        moments = [
            ((index + rng.random()) / model["n_trials"], name, index)
            for name, model in self.models.items()
            for index in range(model["n_trials"])
        ]
        return [(name, index) for _, name, index in sorted(moments)]

    def outputs(self, name: str) -> dict[str, Any]:
        """The outputs of a model for its images."""
        images = np.load(self.file(self.models[name]["images"]))
        return {"outputs": self.model(name).outputs(images)}

    def trial(self, name: str, index: int, best_speed_probe_ms: float) -> dict[str, Any]:
        """Time a model once: its fastest run in one session, or its latency alone in a fresh process."""
        if not self.models[name]["alone"]:
            model = self.model(name)
            if index == 0:
                model.check_placement()
            timing = model.time_session(BLOCK_SESSION_SECONDS, best_speed_probe_ms)
            ms = min(timing.runs_ms) if timing.throttled else timing.fastest_ms
            return {"ms": ms, "speed_probe_ms": timing.speed_probe_ms, "throttled": timing.throttled}
        assert self.script, "a model is timed alone by the file of the runner"
        command = [sys.executable, self.script, self.folder, "--alone", name]
        command += ["--best-speed-probe", str(best_speed_probe_ms), *(["--checked"] if index else [])]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
        if done.returncode:
            label = self.models[name]["label"] or name
            how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
            lines = done.stderr.strip().splitlines() or [f"the process that ran {label} ended with {how}"]
            raise RunnerError(lines[-1])
        figures = json.loads(done.stdout)
        probe_ms = figures.pop("speed_probe_ms")
        return {
            "ms": figures["latency_ms"],
            "speed_probe_ms": probe_ms,
            "throttled": figures["throttled"],
            "alone": figures,
        }

    def run(self, wait_seconds: float) -> None:
        """Run the missing trials, then write the results.

        Args:
            wait_seconds: how long to wait for another runner in this folder to end.

        Raises:
            RunnerError: another runner is still working, or a model failed and `keep_going` is not set.
        """
        with locked(self.file(LOCK), wait_seconds):
            journal = self.journal()
            for name, model in self.models.items():
                if model["images"] and (name, None) not in journal.done:
                    self._do(journal, name, None)
            plan = self.plan()
            self._run_trials(journal, [trial for trial in plan if trial not in journal.done], len(plan))
            limit = int((1 + self.job["repeats"]) * len(plan))
            while journal.n_trials < limit:
                slow = [trial for trial in plan if trial[0] not in journal.failed and journal.slow(*trial)]
                repeated = slow[: limit - journal.n_trials]
                if not repeated:
                    break
                self._run_trials(journal, repeated, journal.n_trials + len(repeated))
            self._write_results(summarize(self.job, journal))

    def _run_trials(self, journal: Journal, trials: list[tuple[str, int]], total: int) -> None:
        for i, (name, index) in enumerate(trials, total - len(trials) + 1):
            if name not in journal.failed:
                self._do(journal, name, index)
            sys.stdout.write(f"{i} {total}\n")
            sys.stdout.flush()

    def _do(self, journal: Journal, name: str, index: int | None) -> None:
        """Run a trial, or with index None compute the outputs of a model, and save it."""
        start = time.perf_counter()
        try:
            if index is None:
                measured = self.outputs(name)
            else:
                measured = self.trial(name, index, journal.best_speed_probe_ms)
        except RunnerError as error:
            if not self.job["keep_going"]:
                raise
            measured = {"failed": str(error)}
        journal.add(name, index, measured, 0.0 if index is None else time.perf_counter() - start)

    def _write_results(self, results: dict[str, Any]) -> None:
        temporary = self.file(RESULTS + ".part")
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(results, file)
        os.replace(temporary, self.file(RESULTS))
