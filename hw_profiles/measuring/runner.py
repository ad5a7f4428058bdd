"""Times ONNX models on a device. One file; needs Python 3.8 or later, numpy and onnxruntime, nothing else.

    python runner.py BUNDLE        does the work that BUNDLE/job.json describes

A model of a bundle is measured several times. A trial is either one session in the runner's process (small
graphs of a latency table) or a fresh process with the model alone (whole networks); the latter is the latency
that the toolkit means wherever it says `latency_ms`. All trials are shuffled over the whole time, so that a
slow moment of the machine spreads over all models. Every finished trial is a line of BUNDLE/trials.jsonl: a
runner that was killed goes on after the last whole line. BUNDLE/results.json, written at the end, adds what
identifies the device, how steady it was, and what the models answer to the images that the bundle holds.
"""

from __future__ import annotations

import argparse
import gc
import glob
import itertools
import json
import math
import os
import platform
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple, Union

try:
    import numpy as np
    import onnxruntime
except ImportError as error:
    if __name__ != "__main__":
        raise
    sys.exit(f"{error}; on this device: {sys.executable} -m pip install numpy onnxruntime")

SCHEMA_VERSION = 7
JOB, TRIALS, RESULTS, LOCK = "job.json", "trials.jsonl", "results.json", "lock"

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
# The clock: where one thread does all the work, its CPU time, which leaves out the time of other processes.
# It is no better than the wall clock for such short runs (0.47 and 0.41 %), but at 224 pixels (8 subnets of
# 10-200 ms, load 10) 12 sessions of 0.05, 0.1, 0.25, 0.5 s give 2.7, 2.6, 2.5, 2.5 %; the wall clock 15-18 %.
# The job says how many sessions a process opens.
QUANTILE = 0.25
SESSION_SECONDS = 0.01
VISIT_SECONDS = 0.004  # in the runner's own process; 0.01 gave the table the same errors
MIN_RUNS = 10
WARM_UP_RUNS = 3
ACCELERATOR_WARM_UP_SECONDS = 0.3  # clocks rise, and the first runs choose the kernels
# Slow models: a session ends after LONG_SESSION_SECONDS once it has FEW_RUNS, and a process opens no more
# sessions after LONG_SECONDS once it has FEW_SESSIONS.
LONG_SESSION_SECONDS, FEW_RUNS = 0.1, 3
LONG_SECONDS, FEW_SESSIONS = 0.7, 4

# Slow moments: another guest of a shared machine on the same core, or a governor, makes everything take 1.4
# to 2.1 times as long for milliseconds to minutes, CPU time included. A fixed piece of work, the gauge, tells
# them: on a rented server with two speeds, networks took 1.01 to 1.03 of their least time while the gauge was
# within STEADY of its own, and 1.3 to 2.1 else. So a session waits for a steady moment, on any core. What was
# timed at a slow one is timed again later, as often as the job allows; where most models saw no steady one,
# all trials count. With neighbours at work two thirds of the time the noise floor fell from 16-23 to 0.7 %.
STEADY = 1.2
PATIENCE_SECONDS = 0.1
SPEED_PROBE_LOOPS, SPEED_PROBE_TRIES = 1000, 3
SPEED_PROBE_VALUES, SPEED_PROBE_ROUNDS = 32768, 12  # of all cores at once
SPEED_PROBE_SECONDS = 10.0  # at most

THREAD_CLOCK_IS_FINE = time.get_clock_info("thread_time").resolution <= 1e-6  # 16 ms on Windows
SPEED_PROBE_CLOCK = time.thread_time_ns if THREAD_CLOCK_IS_FINE else time.perf_counter_ns
CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()  # that this process may use

CPU = "CPUExecutionProvider"
INPUT_TYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(bool)": np.bool_,
    **{f"tensor({kind}{bits})": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}
# Names of the memory of accelerators, as ONNX Runtime has them; all other providers read the host's memory.
MEMORY = {
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "cuda",
    "NvTensorRTRTXExecutionProvider": "cuda",
    "DmlExecutionProvider": "dml",
    "CANNExecutionProvider": "cann",
}
Array = Any  # numpy.ndarray; numpy of Python 3.8 has no generic arrays
# As profiles name what a convolution reads, by precision.
TENSOR_TYPES = {"fp16": ("float16",), "int8": ("int8", "uint8")}


class RunnerError(ValueError):
    """An error that the user can correct; printed as one line, exit code 2."""


# ---------------------------------------------------------------------- timing


def robust_ms(fastest_ms: list[float]) -> float:
    """The latency from the fastest run of each of several sessions."""
    return float(np.quantile(fastest_ms, QUANTILE))


def speed_probe_ms(threads: int) -> float:
    """CPU time of a fixed piece of work of tens of microseconds, the fastest of a few.

    Args:
        threads: that a network will use; where they take every core, all cores work at once.
    """
    if 1 < threads >= len(CORES) > 0:
        return _all_cores_probe_ms()
    times = []
    for _ in range(SPEED_PROBE_TRIES):
        start, total = SPEED_PROBE_CLOCK(), 0
        for i in range(SPEED_PROBE_LOOPS):
            total += i * i
        times.append((SPEED_PROBE_CLOCK() - start) / 1e6)
    return min(times)


def _all_cores_probe_ms() -> float:
    """Of the slowest core, while all work at once and on what another one has just written.

    The cores of a virtual machine may share one physical core, or no cache, from one moment to the next: no
    core alone tells, and networks take 1.5 and 2.0 times as long.
    """
    shared = [np.linspace(0, 1, SPEED_PROBE_VALUES, dtype=np.float32) for _ in CORES]
    together = threading.Barrier(len(CORES), timeout=SPEED_PROBE_SECONDS)
    fastest: list[float] = []

    def work(i: int, core: int) -> None:
        try:
            stay_on({core})
            result = np.empty_like(shared[i])
            times = []
            for r in range(SPEED_PROBE_ROUNDS):
                values = shared[(i + r) % len(shared)]
                together.wait()
                start = SPEED_PROBE_CLOCK()
                np.negative(values, out=values)
                np.exp(values, out=result)
                times.append((SPEED_PROBE_CLOCK() - start) / 1e6)
        except (RunnerError, threading.BrokenBarrierError):
            together.abort()  # the other threads would wait for ever
        else:
            fastest.append(min(times))

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(CORES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(fastest) < len(CORES):
        raise RunnerError(_CORES_CHANGED.format(cores=sorted(CORES)))
    return max(fastest)


_CORES_CHANGED = (
    "this process cannot use the CPU cores {cores} at once any more, as it could when it started; finished "
    "trials are saved: start it again"
)


def stay_on(cores: set[int]) -> None:
    """Keep the calling thread on some cores.

    Raises:
        RunnerError: the cores went offline, or were taken from this process.
    """
    if not cores:
        return
    try:
        os.sched_setaffinity(0, cores)
    except OSError:
        raise RunnerError(_CORES_CHANGED.format(cores=sorted(cores))) from None


@contextmanager
def undisturbed(cores: set[int]) -> Iterator[None]:
    """Keep the calling thread on some cores and do not collect garbage; afterwards both are as before."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        stay_on(cores)
        yield
    finally:
        if collecting:
            gc.enable()
        stay_on(CORES)


def settle(best_speed_probe_ms: float, threads: int) -> float:
    """Wait for a steady moment, `PATIENCE_SECONDS` at most; returns the gauge of the moment that came.

    Args:
        best_speed_probe_ms: the lowest gauge that is known of this device.
        threads: that a network will use; a single one looks for it on each core, and stays there.

    Raises:
        RunnerError: this process cannot use its cores any more.
    """
    cores: list[set[int]] = [{core} for core in sorted(CORES)] if threads == 1 and CORES else [set()]
    end = time.perf_counter() + PATIENCE_SECONDS
    for core in itertools.cycle(cores):
        stay_on(core)
        gauge = speed_probe_ms(threads)
        if gauge <= STEADY * best_speed_probe_ms or time.perf_counter() > end:
            break
    return gauge


class Timed(NamedTuple):
    """The figures of one session."""

    fastest_ms: float
    """CPU time of the fastest run where one thread does all the work, else its wall-clock time."""
    runs_ms: list[float]
    """Wall-clock time of each run."""
    speed_probe_ms: float
    """How slow the moment was; 0 where the processor does not do the work."""
    throttled: int
    """Periods in which a CPU quota stopped this process or others of its control group."""


class Model:
    """An ONNX file that can be timed.

    Args:
        path: the file; constants that it does not hold lie beside it.
        job: how it is run: `threads` of one operator, the execution `provider`, the `precision` (`fp32`,
            `fp16` or `int8`) that it must really compute in, and `fallback`: whether the CPU may run the
            nodes that another provider does not take.
        shapes: of inputs that leave dimensions open, by name.
        label: what messages call the file; by default its path.

    Raises:
        RunnerError: no such file, a number of threads that this process cannot run, or a provider that this
            onnxruntime does not have.
    """

    def __init__(
        self,
        path: str,
        job: dict[str, Any],
        shapes: dict[str, list[int]] | None = None,
        label: str | None = None,
    ) -> None:
        refuse_threads(job["threads"])
        available = onnxruntime.get_available_providers()
        if job["provider"] not in available:
            raise RunnerError(f"provider must be one of {available} on this device, got {job['provider']!r}")
        self.label = label or path
        if not os.path.isfile(path):
            reason = "it is a folder" if os.path.isdir(path) else "no such file"
            raise RunnerError(f"cannot read the model {self.label}: {reason}")
        self.path, self.provider, self.shapes = path, job["provider"], shapes or {}
        self.precision, self.fallback = job["precision"], job["fallback"]
        self.memory = MEMORY.get(self.provider)
        alone = job["threads"] == 1 and self.provider == CPU and THREAD_CLOCK_IS_FINE
        self.clock = time.thread_time_ns if alone else time.perf_counter_ns
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = job["threads"]
        self.options.inter_op_num_threads = 1
        self.options.log_severity_level = 3  # errors alone
        self.first_core: set[int] = set()
        if 1 < job["threads"] == len(CORES):
            # Two threads that the system puts on one core wait for each other, for 10 ms and longer.
            first, *others = sorted(CORES)
            self.first_core = {first}
            counted_from_1 = ";".join(str(core + 1) for core in others)
            self.options.add_session_config_entry("session.intra_op_thread_affinities", counted_from_1)

    def timed(self, seconds: float, best_speed_probe_ms: float = float("inf")) -> Timed:
        """Time runs for about `seconds` in a new session, at a steady moment where there is one.

        Raises:
            RunnerError: the model cannot be loaded or run.
        """
        threads, on_cpu = self.options.intra_op_num_threads, self.provider == CPU
        # Before the session is there and after it is gone: its threads would keep the other cores busy.
        try:
            gauge = settle(best_speed_probe_ms, threads) if on_cpu else 0.0
            session = self.open()
            run = self.prepare(session)
            times: list[float] = []
            fastest, throttled = float("inf"), throttled_periods()
            with undisturbed(self.first_core):
                self._warm_up(run)
                start = time.perf_counter()
                while not _enough(len(times), time.perf_counter() - start, seconds):
                    wall, busy = time.perf_counter_ns(), self.clock()
                    run()
                    fastest = min(fastest, (self.clock() - busy) / 1e6)
                    times.append((time.perf_counter_ns() - wall) / 1e6)
            throttled = throttled_periods() - throttled
            del run, session
            if on_cpu:
                gauge = max(gauge, speed_probe_ms(threads))
        finally:
            stay_on(CORES)
        return Timed(fastest, times, gauge, throttled)

    def prepare(self, session: onnxruntime.InferenceSession) -> Callable[[], object]:
        """What runs a session once on random inputs; it has run once already.

        Raises:
            RunnerError: the session does not run on them.
        """
        shapes = self.input_shapes(session)
        try:
            inputs = random_inputs(session, shapes)
            if self.memory:
                binding = bind(session, inputs, self.memory)

                def run() -> None:
                    session.run_with_iobinding(binding)
                    binding.synchronize_outputs()
            else:
                names = [output.name for output in session.get_outputs()]

                def run() -> None:
                    session.run(names, inputs)

            run()
        except Exception as error:  # onnxruntime raises classes of its own that have no common base
            shown = " ".join(f"{name}={','.join(map(str, shape))}" for name, shape in shapes.items())
            reason = " ".join(str(error).split())
            raise RunnerError(f"{self.label} does not run on random inputs {shown}: {reason}") from None
        return run

    def _warm_up(self, run: Callable[[], object]) -> None:
        """Run a few times without timing; an accelerator until it has chosen its kernels and its clock."""
        runs, start = 1, time.perf_counter()  # `prepare` has made the first run
        seconds = 0.0
        while runs < WARM_UP_RUNS or (self.provider != CPU and seconds < ACCELERATOR_WARM_UP_SECONDS):
            run()
            runs, seconds = runs + 1, time.perf_counter() - start
            if self.provider == CPU and seconds > LONG_SESSION_SECONDS:
                break

    def input_shapes(self, session: onnxruntime.InferenceSession) -> dict[str, list[int]]:
        """The shape of each input.

        Raises:
            RunnerError: a dimension is open and no shape was given, or an input is no tensor of numbers.
        """
        refuse_inputs(session, self.label)
        shapes = {}
        for declared in session.get_inputs():
            shape = self.shapes.get(declared.name, declared.shape)
            if not all(isinstance(size, int) for size in shape):
                raise RunnerError(
                    f"{self.label} leaves the shape of its input {declared.name!r} open: {shape}; "
                    f"the job must give it"
                )
            shapes[declared.name] = list(shape)
        return shapes

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
            try:
                session = self.open()
                self.prepare(session)
                with open(session.end_profiling(), encoding="utf-8") as file:
                    events = json.load(file)
            finally:
                self.options.enable_profiling = False
        nodes = [event["args"] for event in events if event.get("cat") == "Node" and "args" in event]
        refuse_misplaced(
            [node for node in nodes if "provider" in node], self.provider, self.precision, self.fallback
        )

    def outputs(self, images: Array) -> list[list[float]]:
        """The first output for each image, flattened.

        Args:
            images: shape (n, channels, height, width); the model's only input reads them.
        """
        session = self.open()
        ((name, shape),) = self.input_shapes(session).items()
        dtype, batch = INPUT_TYPES[session.get_inputs()[0].type], shape[0]
        answers: list[Array] = []
        for start in range(0, len(images), batch):
            part = np.resize(images[start : start + batch], (batch, *images.shape[1:]))
            answers += list(session.run(None, {name: part.astype(dtype)})[0])
        return [[float(value) for value in answer.ravel()] for answer in answers[: len(images)]]

    def open(self) -> onnxruntime.InferenceSession:
        """A new session.

        Raises:
            RunnerError: onnxruntime cannot load the model, or fell back to another provider.
        """
        try:
            session = onnxruntime.InferenceSession(self.path, self.options, providers=[self.provider])
        except Exception as error:  # onnxruntime raises classes of its own that have no common base
            raise RunnerError(self._refusal(" ".join(str(error).split()))) from None
        if session.get_providers()[0] != self.provider:
            raise RunnerError(f"onnxruntime fell back from {self.provider} to {session.get_providers()[0]}")
        return session

    def _refusal(self, reason: str) -> str:
        version = onnxruntime.__version__
        if any(sign in reason for sign in ("IR version", "ValidateOpsetForDomain", "opset versions")):
            return (
                f"onnxruntime {version} on this device is too old for {self.label}; "
                f"`{sys.executable} -m pip install --upgrade onnxruntime` there ({reason})"
            )
        return f"{self.label} is no ONNX model that onnxruntime {version} can load: {reason}"


def refuse_inputs(session: onnxruntime.InferenceSession, label: str) -> None:
    """Refuse a model whose inputs cannot be filled with random values.

    Raises:
        RunnerError: an input is no tensor, or has a type that numpy does not have.
    """
    for declared in session.get_inputs():
        if declared.type not in INPUT_TYPES:
            raise RunnerError(
                f"{label}: the inputs must be tensors of numbers or bool, "
                f"{declared.name!r} is {declared.type}"
            )


def random_inputs(session: onnxruntime.InferenceSession, shapes: dict[str, list[int]]) -> dict[str, Array]:
    """Values for each input of a session, the same ones in each call.

    Floats are normal noise, bytes are pixels. Other integers are 0 or 1, which are valid as tokens of any
    vocabulary, as token types and as masks.
    """
    rng = np.random.default_rng(0)
    return {
        declared.name: _random(rng, np.dtype(INPUT_TYPES[declared.type]), shapes[declared.name])
        for declared in session.get_inputs()
    }


def _random(rng: np.random.Generator, dtype: np.dtype[Any], shape: list[int]) -> Array:
    if dtype.kind == "f":
        return np.asarray(rng.standard_normal(shape), dtype)
    return np.asarray(rng.integers(0, 256 if dtype == np.uint8 else 2, shape), dtype)


def bind(session: onnxruntime.InferenceSession, inputs: dict[str, Array], memory: str) -> Any:
    """Inputs and outputs in the memory of an accelerator, so that no copy to or from it is timed."""
    binding = session.io_binding()
    for name, value in inputs.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value, memory, 0))
    for output in session.get_outputs():
        binding.bind_output(output.name, memory)
    return binding


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
        RunnerError: it ran none, or not all without `fallback`, or they computed in another precision.
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


def _enough(runs: int, elapsed: float, seconds: float) -> bool:
    if elapsed < LONG_SESSION_SECONDS:
        return runs >= MIN_RUNS and elapsed >= seconds
    return runs >= FEW_RUNS


def benchmark(model: Model, n_sessions: int, best_speed_probe_ms: float = float("inf")) -> dict[str, Any]:
    """Time one model in this process, which should be fresh.

    Args:
        model: what to time.
        n_sessions: how many to open at most.
        best_speed_probe_ms: the lowest gauge that is known of this device.

    Raises:
        RunnerError: the model cannot be loaded or run.
    """
    start = time.perf_counter()
    sessions: list[Timed] = []
    while len(sessions) < n_sessions:
        sessions.append(model.timed(SESSION_SECONDS, best_speed_probe_ms))
        best_speed_probe_ms = min(best_speed_probe_ms, sessions[-1].speed_probe_ms)
        if len(sessions) >= FEW_SESSIONS and time.perf_counter() - start > LONG_SECONDS:
            break
    used = [timed for timed in sessions if timed.speed_probe_ms <= STEADY * best_speed_probe_ms] or sessions
    runs = np.concatenate([timed.runs_ms for timed in used])
    throttled = sum(timed.throttled for timed in sessions)
    by_cpu_time = model.clock is not time.perf_counter_ns and not throttled
    return {
        "latency_ms": robust_ms([timed.fastest_ms if by_cpu_time else min(timed.runs_ms) for timed in used]),
        "clock": "cpu" if by_cpu_time else "wall",
        "min_ms": float(runs.min()),
        "median_ms": float(np.median(runs)),
        "p90_ms": float(np.quantile(runs, 0.9)),
        "runs": len(runs),
        "throttled": throttled,
        "speed_probe_ms": float(np.median([timed.speed_probe_ms for timed in used])),
    }


def drift(times_ms: list[float]) -> float:
    """How much one model's latency changed: spread of its medians in four quarters of the time / median."""
    medians = [np.median(quarter) for quarter in np.array_split(times_ms, 4)]
    return float((max(medians) - min(medians)) / np.median(times_ms))


def split_half(times_ms: list[list[float]]) -> float:
    """Spearman's rank correlation of the latencies by even trials with those by odd trials."""
    halves = [[robust_ms(times[start::2]) for times in times_ms if len(times) > 1] for start in (0, 1)]
    ranks = [np.argsort(np.argsort(half)) for half in halves]
    return float(np.asarray(np.corrcoef(ranks))[0, 1])


# ---------------------------------------------------------------------- the device


def device() -> dict[str, Any]:
    """What identifies the device and its runtime; None where the system does not say."""
    quota = cpu_quota()
    return {
        "cpu": _cpu_name(),
        "board": _text("/proc/device-tree/model"),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "cpu_quota": quota if math.isfinite(quota) else None,
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "machine": platform.machine(),
        "instruction_set": instruction_set(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "runtime": "onnxruntime",
        "version": onnxruntime.__version__,
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
    fields = [line.split(":", 1) for line in (_text("/proc/cpuinfo") or "").splitlines() if ":" in line]
    return {key.strip(): value.strip() for key, value in fields}


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip().strip("\0")
    except OSError:  # not Linux, or not shown to this user
        return None


def conditions() -> dict[str, float | None]:
    """Hottest sensor, fastest core and load at this moment; None where the system does not say."""
    temperatures = _numbers("/sys/class/thermal/thermal_zone*/temp")
    frequencies = _numbers("/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq")
    return {
        "temperature_c": max(temperatures) / 1000 if temperatures else None,
        "mhz": max(frequencies) / 1000 if frequencies else None,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def _numbers(pattern: str) -> list[float]:
    texts = [_text(path) for path in glob.glob(pattern)]
    return [float(text) for text in texts if text and text.lstrip("-").isdigit()]


# ---------------------------------------------------------------------- limits of the process

Root = Union[str, "os.PathLike[str]"]


def usable_cores(root: Root = "/") -> int:
    """The CPU cores that this process may use: its affinity, limited by the CPU quota of its control groups.

    A quota of 1.5 cores counts as 2, since 2 threads are needed to use it up.

    Args:
        root: folder that holds `proc` and `sys`.
    """
    return math.ceil(min(_affinity(), cpu_quota(root)))


def cpu_quota(root: Root = "/") -> float:
    """The CPU time per second that the control groups of this process allow, in cores; infinite without one.

    A group is limited by its own quota and by those of all groups above it. Versions 1 and 2 are supported.

    Args:
        root: folder that holds `proc` and `sys`.
    """
    return min([math.inf, *map(_quota_of, _cpu_groups(root))])


def throttled_periods(root: Root = "/") -> int:
    """The periods so far in which the CPU quota stopped the control groups of this process.

    Args:
        root: folder that holds `proc` and `sys`.
    """
    total = 0
    for group in _cpu_groups(root):
        for line in (_text(os.path.join(group, "cpu.stat")) or "").splitlines():
            name, _, value = line.partition(" ")
            if name == "nr_throttled" and value.isdigit():
                total += int(value)
    return total


def refuse_threads(threads: int) -> None:
    """Refuse threads that would wait for each other instead of working at once.

    Raises:
        RunnerError: there are none, or more than this process may use cores.
    """
    if threads < 1:
        raise RunnerError(f"threads must be >= 1, got {threads}")
    if threads > usable_cores():
        quota = cpu_quota()
        limit = f", CPU quota {quota:g} cores" if math.isfinite(quota) else ""
        raise RunnerError(
            f"threads must be <= {usable_cores()}, the CPU cores that this process may use on this device "
            f"(affinity {_affinity()} cores{limit}), got {threads}"
        )


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_groups(root: Root) -> list[str]:
    """Folders of the control groups that may limit the CPU time of this process; some may not exist."""
    found = []
    for line in (_text(os.path.join(root, "proc/self/cgroup")) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",") if controllers else []
        if names and "cpu" not in names:
            continue
        parts = [part for part in path.split("/") if part]
        for mount in [controllers, "cpu"] if names else [""]:  # version 2 has one hierarchy and no names
            top = os.path.join(root, "sys/fs/cgroup", mount)
            found += [os.path.join(top, *parts[:depth]) for depth in range(len(parts) + 1)]
    return sorted({os.path.realpath(group) for group in found})


def _quota_of(group: str) -> float:
    """The quota of one control group, in cores; infinite where it has none or does not exist."""
    quota, _, period = (_text(os.path.join(group, "cpu.max")) or "").partition(" ")
    if not quota:
        quota = _text(os.path.join(group, "cpu.cfs_quota_us")) or ""
        period = _text(os.path.join(group, "cpu.cfs_period_us")) or ""
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # no such file, or "max"
        return math.inf
    return cores if cores > 0 else math.inf  # version 1 says -1 for no quota


# ---------------------------------------------------------------------- energy

# A counter sees the whole processor or board, so other processes count too: measure where nothing else runs.
# What is drawn without work is measured just before and subtracted.
IDLE_SECONDS, ENERGY_SECONDS = 1.0, 3.0
SAMPLE_SECONDS = 0.02
RAPL, HWMON = "/sys/class/powercap", "/sys/class/hwmon"
NVIDIA_PROVIDERS = ("CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider")


def energy(model: Model) -> dict[str, Any]:
    """Energy of one run above that of waiting, mJ, and the counter that told; None where there is none."""
    counter = energy_counter(model.provider)
    if counter is None:
        return {"energy_mj": None, "energy_counter": None}
    run = model.prepare(model.open())
    seconds: list[float] = []

    def work() -> None:
        end = time.perf_counter() + ENERGY_SECONDS
        while time.perf_counter() < end:
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)

    start = time.perf_counter()
    idle_joules = counter.joules(lambda: time.sleep(IDLE_SECONDS))
    idle_watts = idle_joules / (time.perf_counter() - start)
    joules = counter.joules(work) - idle_watts * sum(seconds)
    return {"energy_mj": 1000 * joules / len(seconds), "energy_counter": counter.name}


def energy_counter(provider: str) -> Counter | None:
    """The counter that sees what this provider does; None where there is none."""
    if provider in NVIDIA_PROVIDERS:
        return Nvml.find() or Ina.find()
    return Rapl.find() or Ina.find()


class Counter:
    """Tells how much energy goes while something is done."""

    name: str

    def joules(self, work: Callable[[], None]) -> float:
        """Energy that goes during `work`."""
        raise NotImplementedError


class Rapl(Counter):
    """Energy counters of x86 processors, all packages together; most systems let only root read them."""

    name = "RAPL"

    def __init__(self, packages: list[str]) -> None:
        self.packages = packages
        self.ranges = np.array([int(_text(path + "/max_energy_range_uj") or 2**62) for path in packages])

    @classmethod
    def find(cls) -> Rapl | None:
        """The processor's counters, None where there are none or they must not be read."""
        packages = sorted(path for path in glob.glob(RAPL + "/intel-rapl:*") if path.count(":") == 1)
        readable = packages and all(_text(path + "/energy_uj") for path in packages)
        return cls(packages) if readable else None

    def joules(self, work: Callable[[], None]) -> float:
        """See `Counter`; a counter begins again at 0 after its largest value."""
        before = self._read()
        work()
        return float(((self._read() - before) % self.ranges).sum() / 1e6)

    def _read(self) -> np.ndarray[Any, Any]:
        return np.array([int(_text(path + "/energy_uj") or 0) for path in self.packages])


class Sampled(Counter):
    """Energy from a power that is read again and again."""

    def watts(self) -> float:
        """The power at this moment."""
        raise NotImplementedError

    def joules(self, work: Callable[[], None]) -> float:
        """See `Counter`."""
        done, samples = threading.Event(), [self.watts()]

        def sample() -> None:
            while not done.wait(SAMPLE_SECONDS):
                samples.append(self.watts())

        thread = threading.Thread(target=sample)
        start = time.perf_counter()
        thread.start()
        work()
        seconds = time.perf_counter() - start
        done.set()
        thread.join()
        return sum(samples) / len(samples) * seconds


class Ina(Sampled):
    """Power sensors of a board, such as the INA3221 of a Jetson; the largest rail is taken for the input."""

    name = "INA"

    @classmethod
    def find(cls) -> Ina | None:
        """The board's sensors, if any."""
        return cls() if _numbers(HWMON + "/hwmon*/power1_input") else None

    def watts(self) -> float:
        """See `Sampled`."""
        return max(_numbers(HWMON + "/hwmon*/power1_input")) / 1e6


class Nvml(Sampled):
    """What the driver says that the first NVIDIA GPU draws."""

    name = "NVML"

    @classmethod
    def find(cls) -> Nvml | None:
        """The driver, if it answers."""
        try:
            cls().watts()
        except (OSError, ValueError, subprocess.CalledProcessError):
            return None
        return cls()

    def watts(self) -> float:
        """See `Sampled`."""
        command = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits", "--id=0"]
        return float(subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout)


# ---------------------------------------------------------------------- the bundle


def write_weights(path: str, weights: dict[str, Any]) -> None:
    """Write the random constants that the models of a bundle share, whole or not at all.

    Each region starts where the models say and holds `count` draws of a normal distribution with the
    standard deviation `scale`, rounded and clipped where `dtype` is an integer. RandomState is the generator
    whose draws numpy keeps the same in all versions.
    """
    draws = np.random.RandomState(weights["seed"])
    temporary = path + ".part"
    with open(temporary, "wb") as file:
        for region in weights["regions"]:
            values = draws.standard_normal(region["count"]) * region["scale"]
            dtype = np.dtype(region["dtype"])
            if dtype.kind == "i":
                values = np.clip(np.rint(values), np.iinfo(dtype).min, np.iinfo(dtype).max)
            file.seek(region["offset"])
            file.write(values.astype(dtype).tobytes())
    os.replace(temporary, path)


class Bundle:
    """A folder with models and `job.json`.

    Raises:
        RunnerError: there is no job, it is not whole, or it is of a newer version.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
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
        """One of its models, with the constants that it needs."""
        self.write_weights()
        entry = self.models[name]
        return Model(self.file(entry["file"]), self.job, entry["shapes"], entry["label"])

    def write_weights(self) -> None:
        """Write the constants that models share, where they are not there yet."""
        weights = self.job["weights"]
        if weights and not os.path.exists(self.file(weights["file"])):
            write_weights(self.file(weights["file"]), weights)

    def plan(self) -> list[tuple[str, int]]:
        """All trials as (model id, round) in the order of the work.

        A model of `n` trials is measured once in every n-th of the time, at a random moment.
        """
        rng = random.Random(self.job["seed"])
        moments = [
            ((r + rng.random()) / model["n_trials"], name, r)
            for name, model in self.models.items()
            for r in range(model["n_trials"])
        ]
        return [(name, r) for _, name, r in sorted(moments)]

    def outputs(self, name: str) -> dict[str, Any]:
        """What a model answers to its images."""
        images = np.load(self.file(self.models[name]["images"]))
        return {"outputs": self.model(name).outputs(images)}

    def trial(self, name: str, r: int, best_speed_probe_ms: float) -> dict[str, Any]:
        """Time a model once: its fastest run in one session, or what it takes alone in a fresh process."""
        if not self.models[name]["alone"]:
            model = self.model(name)
            if r == 0:
                model.check_placement()
            timed = model.timed(VISIT_SECONDS, best_speed_probe_ms)
            ms = min(timed.runs_ms) if timed.throttled else timed.fastest_ms
            return {"ms": ms, "speed_probe_ms": timed.speed_probe_ms, "throttled": timed.throttled}
        command = [sys.executable, os.path.abspath(__file__), self.folder, "--alone", name]
        command += ["--best-speed-probe", str(best_speed_probe_ms), *(["--checked"] if r else [])]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
        if done.returncode:
            label = self.models[name]["label"] or name
            how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
            lines = done.stderr.strip().splitlines() or [f"the process that ran {label} ended with {how}"]
            raise RunnerError(lines[-1])
        figures = json.loads(done.stdout)
        gauge = figures.pop("speed_probe_ms")
        return {
            "ms": figures["latency_ms"],
            "speed_probe_ms": gauge,
            "throttled": figures["throttled"],
            "alone": figures,
        }

    def run(self, wait_seconds: float) -> None:
        """Do the trials that are missing, then write the results.

        Args:
            wait_seconds: how long to wait for another runner in this folder to end.
        """
        with locked(self.file(LOCK), wait_seconds):
            journal = Journal(self)
            for name, model in self.models.items():
                if model["images"] and (name, None) not in journal.done:
                    self._do(journal, name, None)
            plan = self.plan()
            self._run_trials(journal, [trial for trial in plan if trial not in journal.done], len(plan))
            limit = int((1 + self.job["repeats"]) * len(plan))
            while journal.n_trials < limit:
                slow = [trial for trial in plan if trial[0] not in journal.failed and journal.slow(*trial)]
                again = slow[: limit - journal.n_trials]
                if not again:
                    break
                self._run_trials(journal, again, journal.n_trials + len(again))
            self.write_results(journal)

    def _run_trials(self, journal: Journal, trials: list[tuple[str, int]], total: int) -> None:
        for i, (name, r) in enumerate(trials, total - len(trials) + 1):
            if name not in journal.failed:
                self._do(journal, name, r)
            sys.stdout.write(f"{i} {total}\n")
            sys.stdout.flush()

    def _do(self, journal: Journal, name: str, r: int | None) -> None:
        """Visit a model, or with round None compute its outputs, and save that it is done."""
        start = time.perf_counter()
        try:
            done = self.outputs(name) if r is None else self.trial(name, r, journal.best_speed_probe_ms)
        except RunnerError as error:
            if not self.job["keep_going"]:
                raise
            done = {"failed": str(error)}
        journal.add(name, r, done, 0.0 if r is None else time.perf_counter() - start)

    def write_results(self, journal: Journal) -> None:
        """Write `results.json`, whole or not at all.

        Raises:
            RunnerError: all models failed.
        """
        models = {name: model for name, model in self.models.items() if name not in journal.failed}
        if not models:
            raise RunnerError("; ".join(dict.fromkeys(journal.failed.values())))
        trials = [trial for trial in journal.trials() if trial["model"] in models]
        times: dict[str, list[float]] = {name: [] for name in models}
        steady: dict[str, list[float]] = {name: [] for name in models}
        alone: dict[str, list[dict[str, Any]]] = {}
        for trial in trials:
            name = trial["model"]
            times[name].append(trial["ms"])
            if not journal.slow(name, trial["index"]):
                steady[name].append(trial["ms"])
            if "alone" in trial:
                alone.setdefault(name, []).append(trial["alone"])
        always_slow = [name for name, found in steady.items() if not found]
        if 2 * len(always_slow) > len(steady):
            steady = times
        small = [times[name] for name, model in models.items() if not model["alone"]]
        sentinel = self.job["sentinel"]
        lines = [line for line in journal.lines if "ms" in line]
        results = {
            "schema_version": SCHEMA_VERSION,
            "bundle": self.id,
            "device": device(),
            "seconds": sum(line["seconds"] for line in lines),
            "seconds_of": {name: _seconds(lines, name) for name in models},
            "trials_ms": times,
            "latency_ms": {name: robust_ms(steady[name] or times[name]) for name in models},
            "alone": alone,
            "outputs": {line["model"]: line["outputs"] for line in journal.lines if "outputs" in line},
            "conditions": {
                name: _range([line["conditions"][name] for line in lines]) for name in conditions()
            },
            "best_speed_probe_ms": journal.best_speed_probe_ms,
            "always_slow": always_slow,
            "slow_share": sum(journal.slow(trial["model"], trial["index"]) for trial in trials) / len(trials),
            "throttled_share": sum(trial["throttled"] > 0 for trial in trials) / len(trials),
            "failed": journal.failed,
            "sentinel_drift": drift(times[sentinel]) if sentinel else None,
            "split_half_spearman": split_half(small) if len(small) > 1 else None,
        }
        temporary = self.file(RESULTS + ".part")
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(results, file)
        os.replace(temporary, self.file(RESULTS))


def _seconds(trials: list[dict[str, Any]], name: str) -> float:
    return float(sum(trial["seconds"] for trial in trials if trial["model"] == name))


def _range(values: list[float | None]) -> list[float] | None:
    known = [value for value in values if value is not None]
    return [min(known), max(known)] if known else None


class Journal:
    """The finished trials of a bundle, a line each; a line that was cut off or damaged ends it.

    A trial that is repeated has several lines. A model that failed has a line with the reason.

    Raises:
        RunnerError: the trials belong to another bundle or were made with another onnxruntime.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.path, self.id = bundle.file(TRIALS), bundle.id
        self.lines: list[dict[str, Any]] = []
        whole = 0
        with open(self.path, "a+b") as file:
            file.seek(0)
            for text in file:
                try:
                    line = json.loads(text)
                except ValueError:  # killed or without power while it was written
                    break
                if not text.endswith(b"\n"):
                    break
                self.lines.append(line)
                whole += len(text)
            file.truncate(whole)
        mine = (self.id, onnxruntime.__version__)
        if any((line["bundle"], line["version"]) != mine for line in self.lines):
            raise RunnerError(
                f"{self.path} must be of this bundle and of onnxruntime {onnxruntime.__version__}; "
                f"remove it to start again"
            )
        self.done = {(line["model"], line["index"]) for line in self.lines}
        known_ms = bundle.job["best_speed_probe_ms"]
        self.best_speed_probe_ms = float("inf") if known_ms is None else float(known_ms)
        self.failed: dict[str, str] = {}
        self._best: dict[tuple[str, int], dict[str, Any]] = {}
        for line in self.lines:
            self._note(line)

    @property
    def n_trials(self) -> int:
        """Trials so far, repeated ones included."""
        return sum("ms" in line for line in self.lines)

    def trials(self) -> list[dict[str, Any]]:
        """By round, of each trial and its repetitions the one at the steadiest moment."""
        return sorted(self._best.values(), key=lambda trial: trial["index"])

    def slow(self, model: str, r: int) -> bool:
        """Whether a trial saw slow moments alone, or a CPU quota stopped it."""
        trial = self._best[model, r]
        return bool(trial["throttled"] or trial["speed_probe_ms"] > STEADY * self.best_speed_probe_ms)

    def _note(self, line: dict[str, Any]) -> None:
        if "failed" in line:
            self.failed.setdefault(line["model"], line["failed"])
        if "ms" in line:
            self.best_speed_probe_ms = min(self.best_speed_probe_ms, line["speed_probe_ms"])
            known = self._best.setdefault((line["model"], line["index"]), line)
            if _disturbance(line) < _disturbance(known):
                self._best[line["model"], line["index"]] = line

    def add(self, model: str, r: int | None, measured: dict[str, Any], seconds: float) -> None:
        """Save a finished trial, or with round None the outputs of a model, so that no reboot loses it."""
        line = {"bundle": self.id, "version": onnxruntime.__version__, "model": model, "index": r}
        line.update(measured, seconds=seconds, conditions=conditions())
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.lines.append(line)
        self.done.add((model, r))
        self._note(line)


def _disturbance(trial: dict[str, Any]) -> tuple[bool, float]:
    return trial["throttled"] > 0, trial["speed_probe_ms"]


@contextmanager
def locked(path: str, wait_seconds: float = 0) -> Iterator[None]:
    """Hold a file that one process at a time can hold; the system lets it go even when that one is killed.

    Raises:
        RunnerError: another process holds it and does not let it go in time.
    """
    end = time.monotonic() + wait_seconds
    with open(path, "w", encoding="utf-8") as file:
        while not _lock(file):
            if time.monotonic() >= end:
                folder = os.path.dirname(os.path.abspath(path))
                raise RunnerError(f"another runner is measuring in {folder}; wait for its end")
            time.sleep(0.2)
        yield


def _lock(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # not POSIX: nothing to lock with
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Times ONNX models on this device.")
    parser.add_argument("bundle", nargs="?", help="folder with job.json; by default the runner's own")
    parser.add_argument("--alone", metavar="ID", help="time this model alone and print the figures as JSON")
    parser.add_argument(
        "--best-speed-probe", type=float, default=float("inf"), metavar="MS", help="with --alone"
    )
    parser.add_argument("--checked", action="store_true", help="with --alone: it runs where it should")
    parser.add_argument("--weights", action="store_true", help="write the models' constants for another tool")
    parser.add_argument("--describe", action="store_true", help="print what this device is as JSON")
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="for another runner to end")
    options = parser.parse_args(arguments)
    try:
        if options.describe:
            sys.stdout.write(json.dumps(device()) + "\n")
            return 0
        bundle = Bundle(options.bundle or os.path.dirname(os.path.abspath(__file__)))
        if options.alone:
            model, n_sessions = bundle.model(options.alone), bundle.models[options.alone]["sessions"]
            if not options.checked:
                model.check_placement()
            figures = benchmark(model, n_sessions, options.best_speed_probe)
            if bundle.job["energy"]:
                figures.update(energy(model))
            sys.stdout.write(json.dumps(figures) + "\n")
        elif options.weights:
            bundle.write_weights()
        else:
            bundle.run(options.wait)
    except RunnerError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
