"""Times ONNX models on a device. One file; needs Python 3.8 or later, numpy and onnxruntime, nothing else.

    python runner.py BUNDLE                    does the work that BUNDLE/job.json describes
    python runner.py --benchmark MODEL         times one model alone in this process

A model of a bundle is visited several times. A visit is either one session in the runner's own process (small
graphs of a latency table) or a fresh process with the model alone, exactly what `--benchmark` does (whole
networks); the latter is the latency that the toolkit means wherever it says `latency_ms`. All visits are
shuffled over the whole time, so that a slow moment of the machine spreads over all models. Every finished
visit is a line of BUNDLE/visits.jsonl: a runner that was killed goes on after the last whole line.
BUNDLE/results.json, written at the end, adds what identifies the device and how steady it was.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
import onnxruntime

SCHEMA_VERSION = 1
JOB, VISITS, RESULTS = "job.json", "visits.jsonl", "results.json"

# How a latency is estimated. Where a session's buffers lie in memory decides 0.5-1 % of the latency for as
# long as the session lives, so a process opens several and takes the fastest run of each; other load adds
# time and never takes any, so a low quantile over the sessions follows. Noise floor (MAPE between passes of
# fresh processes over the same 24 random subnets, 0.02-2 ms) on 2 cores at a load of 4, 12 sessions of
# 15 (digits) and 20 ms (cifar):
#   within a session  min   min       min     p10       median    median
#   over sessions     min   quartile  median  quartile  quartile  median
#   digits space      0.50  0.46      0.47    0.47      0.50      0.52 %
#   cifar space       0.36  0.41      0.67    0.43      1.30      2.45 %
# Chosen: the quartile of minima. With sessions of 10 ms 0.47 and 0.49 %, with 4 sessions 0.57 and 0.43 %.
# Thread-CPU time, 0.47 and 0.41 %, is no better than the wall clock and means nothing with more threads.
SESSIONS = 12
QUANTILE = 0.25
SESSION_SECONDS = 0.01
VISIT_SECONDS = 0.004  # in the runner's own process; 0.01 gave the table the same errors
MIN_RUNS = 20
WARM_UP_RUNS = 3

CPU = "CPUExecutionProvider"
INPUT_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
# As profiles name what a convolution reads, by precision.
TENSOR_TYPES = {"fp16": ("float16",), "int8": ("int8", "uint8")}


class RunnerError(Exception):
    """What a user can mend; told in one line with exit code 2."""


def robust_ms(fastest_ms: list[float]) -> float:
    """The latency from the fastest run of each of several sessions."""
    return float(np.quantile(fastest_ms, QUANTILE))


class Model:
    """An ONNX file that can be timed.

    Args:
        path: the file.
        threads: threads of one operator.
        provider: ONNX Runtime's execution provider.
        precision: `fp32`, `fp16` or `int8`: what it must really compute in.
        fallback: let the CPU run the nodes that another provider does not take.

    Raises:
        RunnerError: no such file, no threads, or a provider that this onnxruntime does not have.
    """

    def __init__(
        self, path: str, threads: int, provider: str, precision: str = "fp32", fallback: bool = False
    ) -> None:
        if threads < 1:
            raise RunnerError(f"threads must be >= 1, got {threads}")
        available = onnxruntime.get_available_providers()
        if provider not in available:
            raise RunnerError(f"provider must be one of {available} on this device, got {provider!r}")
        try:
            with open(path, "rb") as file:
                self.content = file.read()
        except OSError as error:
            raise RunnerError(f"cannot read the model {path}: {error.strerror}") from None
        self.path, self.provider, self.precision, self.fallback = path, provider, precision, fallback
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1
        self.options.log_severity_level = 3  # errors alone

    def session_ms(self, seconds: float) -> list[float]:
        """Wall-clock time of every run in a new session that is used for about `seconds`, ms."""
        session = self._open()
        inputs, names = _random_inputs(session), [session.get_outputs()[0].name]
        for _ in range(WARM_UP_RUNS):
            session.run(names, inputs)
        times: list[float] = []
        gc.disable()
        end = time.perf_counter() + seconds
        while len(times) < MIN_RUNS or time.perf_counter() < end:
            start = time.perf_counter_ns()
            session.run(names, inputs)
            times.append((time.perf_counter_ns() - start) / 1e6)
        gc.enable()
        return times

    def check_placement(self) -> None:
        """See by a profile of one run that nodes run on the provider and in the precision asked for.

        Raises:
            RunnerError: they do not.
        """
        if self.provider == CPU and self.precision == "fp32":
            return  # there is nothing to fall back to
        with tempfile.TemporaryDirectory() as folder:
            self.options.enable_profiling = True
            self.options.profile_file_prefix = os.path.join(folder, "profile")
            session = self._open()
            session.run(None, _random_inputs(session))
            with open(session.end_profiling()) as file:
                events = json.load(file)
            self.options.enable_profiling = False
        nodes = [event["args"] for event in events if event.get("cat") == "Node" and "args" in event]
        refuse_misplaced(
            [node for node in nodes if "provider" in node], self.provider, self.precision, self.fallback
        )

    def _open(self) -> onnxruntime.InferenceSession:
        try:
            session = onnxruntime.InferenceSession(self.content, self.options, providers=[self.provider])
        except Exception as error:  # onnxruntime raises classes of its own that have no common base
            reason = " ".join(str(error).split())
            raise RunnerError(
                f"{self.path} is no ONNX model that onnxruntime {onnxruntime.__version__} can load: {reason}"
            ) from None
        if session.get_providers()[0] != self.provider:
            raise RunnerError(f"onnxruntime fell back from {self.provider} to {session.get_providers()[0]}")
        return session


def refuse_misplaced(
    nodes: list[dict[str, Any]], provider: str, precision: str, fallback: bool = False
) -> None:
    """Refuse a run that was not what was asked for.

    Args:
        nodes: `args` of the nodes in an ONNX Runtime profile.
        provider: that must have run them.
        precision: that convolutions and matrix products must have computed in.
        fallback: one node there is enough.

    Raises:
        RunnerError: the provider ran none, or not all without `fallback`; or they computed in another precision.
    """
    elsewhere = [node["op_name"] for node in nodes if node["provider"] != provider]
    copies = [name for name in elsewhere if name.startswith("Memcpy")]
    if len(elsewhere) == len(nodes):
        raise RunnerError(f"{provider} ran no node of the model: onnxruntime fell back silently")
    if len(elsewhere) > len(copies) and not fallback:
        names = sorted(set(elsewhere) - set(copies))
        raise RunnerError(
            f"{provider} left {len(elsewhere) - len(copies)} of {len(nodes)} nodes to the CPU "
            f"({', '.join(names)}); allow it with --fallback if the model is deployed so"
        )
    if precision not in TENSOR_TYPES:
        return
    heavy = [node for node in nodes if any(kind in node["op_name"] for kind in ("Conv", "Gemm", "MatMul"))]
    types = [next(iter(node["input_type_shape"][0])) for node in heavy]
    wrong = [found for found in types if found not in TENSOR_TYPES[precision]]
    if wrong:
        raise RunnerError(
            f"{provider} does not run {precision}: {len(wrong)} of {len(heavy)} convolutions and "
            f"matrix products computed in {wrong[0]}"
        )


def _random_inputs(session: onnxruntime.InferenceSession) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return {
        i.name: rng.standard_normal(_shape(i.shape)).astype(INPUT_TYPES[i.type]) for i in session.get_inputs()
    }


def _shape(declared: list[int | str | None]) -> list[int]:
    """The shape of an input, dynamic dimensions as 1."""
    return [size if isinstance(size, int) else 1 for size in declared]


def benchmark(path: str, threads: int, provider: str) -> dict[str, object]:
    """Time one model in this process, which should be fresh.

    Raises:
        RunnerError: the model cannot be read or run with this provider.
    """
    model = Model(path, threads, provider)
    sessions = [model.session_ms(SESSION_SECONDS) for _ in range(SESSIONS)]
    runs = np.concatenate(sessions)
    return {
        "latency_ms": robust_ms([min(times) for times in sessions]),
        "min_ms": float(runs.min()),
        "median_ms": float(np.median(runs)),
        "p90_ms": float(np.quantile(runs, 0.9)),
        "runs": len(runs),
        "device": device(threads, provider),
    }


def device(threads: int, provider: str) -> dict[str, object]:
    """What identifies the device, its runtime and how it is used."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "instruction_set": instruction_set(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "runtime": "onnxruntime",
        "version": onnxruntime.__version__,
        "provider": provider,
        "threads": threads,
    }


def instruction_set() -> str:
    """`x86-vnni`, `x86`, `arm`, or the machine's own name: what decides how INT8 values are stored."""
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64", "i386", "i686"):
        return "x86-vnni" if "vnni" in _cpu_info().get("flags", "") else "x86"
    return "arm" if machine.startswith(("arm", "aarch64")) else machine


def _cpu_name() -> str:
    names = _cpu_info()
    return names.get("model name") or names.get("Model") or platform.processor()


def _cpu_info() -> dict[str, str]:
    """Fields of the last core in /proc/cpuinfo; empty where the system is not Linux."""
    try:
        with open("/proc/cpuinfo") as file:
            fields = [line.split(":", 1) for line in file if ":" in line]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, value in fields}


class Bundle:
    """A folder with models and `job.json`.

    Raises:
        RunnerError: there is no job, it is not whole, or it is of a newer version.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        try:
            with open(self.file(JOB)) as file:
                job = json.load(file)
        except (OSError, ValueError) as error:
            raise RunnerError(f"cannot read {self.file(JOB)}: {error}") from None
        if job["schema_version"] > SCHEMA_VERSION:
            raise RunnerError(f"{self.file(JOB)} is of a newer version; use the runner that came with it")
        self.id: str = job["id"]
        self.threads: int = job["threads"]
        self.provider: str = job["provider"]
        self.seed: int = job["seed"]
        self.sentinel: str = job["sentinel"]
        self.models = {model["id"]: model for model in job["models"]}

    def file(self, name: str) -> str:
        """Path of a file of the bundle."""
        return os.path.join(self.folder, name)

    def plan(self) -> list[tuple[str, int]]:
        """All visits as (model id, round) in the order of the work.

        A model of `n` rounds is visited once in every n-th of the time, at a random moment.
        """
        rng = random.Random(self.seed)
        moments = [
            ((r + rng.random()) / model["rounds"], name, r)
            for name, model in self.models.items()
            for r in range(model["rounds"])
        ]
        return [(name, r) for _, name, r in sorted(moments)]

    def visit(self, name: str) -> float:
        """Time a model once, ms: its fastest run in one session, or its latency alone in a fresh process."""
        model = self.models[name]
        path = self.file(model["file"])
        if not model["alone"]:
            return min(Model(path, self.threads, self.provider).session_ms(VISIT_SECONDS))
        command = [sys.executable, os.path.abspath(__file__), "--benchmark", path]
        command += ["--threads", str(self.threads), "--provider", self.provider]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise RunnerError(lines[-1])
        latency: float = json.loads(done.stdout)["latency_ms"]
        return latency

    def finished(self) -> list[dict[str, Any]]:
        """The visits that an earlier runner finished; a line that it was killed in is cut off.

        Raises:
            RunnerError: the visits belong to another bundle or were made with another onnxruntime.
        """
        try:
            with open(self.file(VISITS), "r+b") as file:
                content = file.read()
                whole = content.rfind(b"\n") + 1
                file.truncate(whole)
        except FileNotFoundError:
            return []
        visits = [json.loads(line) for line in content[:whole].splitlines()]
        mine = (self.id, onnxruntime.__version__)
        if any((visit["bundle"], visit["version"]) != mine for visit in visits):
            raise RunnerError(
                f"{self.file(VISITS)} must be of this bundle and of onnxruntime {onnxruntime.__version__}; "
                f"remove it to start again"
            )
        return visits

    def run(self) -> None:
        """Do the visits that are missing, then write the results."""
        visits = self.finished()
        done = {(visit["model"], visit["round"]) for visit in visits}
        plan = self.plan()
        with open(self.file(VISITS), "a") as journal:
            for name, r in plan:
                if (name, r) in done:
                    continue
                start = time.perf_counter()
                ms = self.visit(name)
                visit = {
                    "bundle": self.id,
                    "version": onnxruntime.__version__,
                    "model": name,
                    "round": r,
                    "ms": ms,
                    "seconds": time.perf_counter() - start,
                }
                visits.append(visit)
                journal.write(json.dumps(visit) + "\n")
                journal.flush()
                sys.stdout.write(f"{len(visits)} {len(plan)}\n")
                sys.stdout.flush()
        self.write_results(visits)

    def write_results(self, visits: list[dict[str, Any]]) -> None:
        """Write `results.json`, whole or not at all."""
        times: dict[str, list[float]] = {name: [] for name in self.models}
        for visit in sorted(visits, key=lambda visit: visit["round"]):
            times[visit["model"]].append(visit["ms"])
        results = {
            "schema_version": SCHEMA_VERSION,
            "bundle": self.id,
            "device": device(self.threads, self.provider),
            "seconds": sum(visit["seconds"] for visit in visits),
            "visits_ms": times,
            "latency_ms": {name: robust_ms(visits) for name, visits in times.items()},
            "sentinel_drift": drift(times[self.sentinel]),
            "split_half_spearman": split_half(
                [times[name] for name, model in self.models.items() if not model["alone"]]
            ),
        }
        temporary = self.file(RESULTS + ".part")
        with open(temporary, "w") as file:
            json.dump(results, file)
        os.replace(temporary, self.file(RESULTS))


def drift(times_ms: list[float]) -> float:
    """How much one model's latency changed: spread of its medians in four quarters of the time / median."""
    medians = [np.median(quarter) for quarter in np.array_split(times_ms, 4)]
    return float((max(medians) - min(medians)) / np.median(times_ms))


def split_half(times_ms: list[list[float]]) -> float:
    """Spearman's rank correlation of the latencies by even rounds with those by odd rounds."""
    halves = [[robust_ms(times[start::2]) for times in times_ms if len(times) > 1] for start in (0, 1)]
    ranks = [np.argsort(np.argsort(half)) for half in halves]
    return float(np.asarray(np.corrcoef(ranks))[0, 1])


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Times ONNX models on this device.")
    parser.add_argument("bundle", nargs="?", help="folder with job.json and models")
    parser.add_argument("--benchmark", metavar="MODEL", help="time this ONNX file alone and print JSON")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--provider", default="CPUExecutionProvider")
    options = parser.parse_args(arguments)
    if (options.bundle is None) == (options.benchmark is None):
        parser.error("give a bundle or --benchmark MODEL")
    try:
        if options.benchmark:
            figures = benchmark(options.benchmark, options.threads, options.provider)
            sys.stdout.write(json.dumps(figures) + "\n")
        else:
            Bundle(options.bundle).run()
    except RunnerError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
