"""An ONNX file that can be timed."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from hw_profiles.measuring.runner.affinity import CORES, pin_thread, pinned_without_garbage_collection
from hw_profiles.measuring.runner.errors import RunnerError
from hw_profiles.measuring.runner.estimator import LONG_SESSION_SECONDS, enough_runs, fastest_run_ms
from hw_profiles.measuring.runner.inputs import INPUT_TYPES, Array, bind, check_inputs, random_inputs
from hw_profiles.measuring.runner.placement import check_layers, check_node_placement
from hw_profiles.measuring.runner.process_limits import check_threads, throttled_periods
from hw_profiles.measuring.runner.providers import CPU, MEMORY
from hw_profiles.measuring.runner.speed_probe import THREAD_CLOCK_IS_FINE, speed_probe_ms, wait_until_steady

WARM_UP_RUNS = 3
ACCELERATOR_WARM_UP_SECONDS = 0.3  # its clock rises, and the first runs select the kernels


class SessionTiming(NamedTuple):
    """The measurements of one session."""

    fastest_ms: float
    """CPU time of the fastest run if one thread does all the work, else its wall-clock time."""
    runs_ms: list[float]
    """Wall-clock time of each run."""
    speed_probe_ms: float
    """The slower speed probe of those before and after the session; 0 if the CPU does not do the work."""
    throttled: int
    """Number of periods in which a CPU quota stopped this process or others of its control group."""


class Model:
    """An ONNX file that can be timed.

    Args:
        path: the file; external constants are in the same folder.
        job: how the model is run: the number of `threads` of one operator, the execution `provider`, the
            `precision` (`fp32`, `fp16`, `int8` or `mixed`) that the model must compute in, and `fallback`:
            whether the CPU may run the nodes that another provider does not support.
        shapes: shapes of inputs that leave dimensions open, by name.
        label: name in messages; by default the path.
        layers: the convolutions and matrix products whose precision is checked one by one, see
            `check_layers`.

    Raises:
        RunnerError: the file does not exist, this process cannot use that many threads, or this onnxruntime
            does not have the provider.
    """

    def __init__(
        self,
        path: str,
        job: dict[str, Any],
        shapes: dict[str, list[int]] | None = None,
        label: str | None = None,
        layers: list[dict[str, Any]] | None = None,
    ) -> None:
        check_threads(job["threads"])
        available = onnxruntime.get_available_providers()
        if job["provider"] not in available:
            raise RunnerError(f"provider must be one of {available} on this device, got {job['provider']!r}")
        self.label = label or path
        if not os.path.isfile(path):
            reason = "it is a folder" if os.path.isdir(path) else "no such file"
            raise RunnerError(f"cannot read the model {self.label}: {reason}")
        self.path, self.provider, self.shapes = path, job["provider"], shapes or {}
        self.layers = layers or []
        self.precision, self.fallback = job["precision"], job["fallback"]
        self.memory = MEMORY.get(self.provider)
        one_thread = job["threads"] == 1 and self.provider == CPU and THREAD_CLOCK_IS_FINE
        self.clock = time.thread_time_ns if one_thread else time.perf_counter_ns
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = job["threads"]
        self.options.inter_op_num_threads = 1
        self.options.log_severity_level = 3  # errors only
        self.first_core: set[int] = set()
        if 1 < job["threads"] == len(CORES):
            # Two threads on one core would wait for each other, for 10 ms and longer.
            first, *others = sorted(CORES)
            self.first_core = {first}
            counted_from_1 = ";".join(str(core + 1) for core in others)
            self.options.add_session_config_entry("session.intra_op_thread_affinities", counted_from_1)

    def time_session(self, seconds: float, best_speed_probe_ms: float = float("inf")) -> SessionTiming:
        """Time runs for about `seconds` in a new session, at a steady moment if there is one.

        Args:
            seconds: how long.
            best_speed_probe_ms: the fastest speed probe measured on this device so far.

        Raises:
            RunnerError: the model cannot be loaded or run.
        """
        threads, on_cpu = self.options.intra_op_num_threads, self.provider == CPU
        # The speed is probed before the session exists and after it is deleted: its threads keep cores busy.
        try:
            probe_ms = wait_until_steady(best_speed_probe_ms, threads) if on_cpu else 0.0
            session = self.open()
            run = self.prepare(session)
            wall_ms: list[float] = []
            busy_ms: list[float] = []
            throttled = throttled_periods()
            with pinned_without_garbage_collection(self.first_core):
                self._warm_up(run)
                start = time.perf_counter()
                while not enough_runs(len(wall_ms), time.perf_counter() - start, seconds):
                    wall, busy = time.perf_counter_ns(), self.clock()
                    run()
                    busy_ms.append((self.clock() - busy) / 1e6)
                    wall_ms.append((time.perf_counter_ns() - wall) / 1e6)
            throttled = throttled_periods() - throttled
            del run, session
            if on_cpu:
                probe_ms = max(probe_ms, speed_probe_ms(threads))
        finally:
            pin_thread(CORES)
        return SessionTiming(fastest_run_ms(busy_ms, wall_ms), wall_ms, probe_ms, throttled)

    def prepare(self, session: onnxruntime.InferenceSession) -> Callable[[], object]:
        """A function that runs the session once on random inputs. It has already been called once.

        Raises:
            RunnerError: the session does not run on these inputs.
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
        except Exception as error:  # the exceptions of onnxruntime have no common base class
            shown = " ".join(f"{name}={','.join(map(str, shape))}" for name, shape in shapes.items())
            reason = " ".join(str(error).split())
            raise RunnerError(f"{self.label} does not run on random inputs {shown}: {reason}") from None
        return run

    def _warm_up(self, run: Callable[[], object]) -> None:
        """Run a few times without timing; on an accelerator until it has selected its kernels and clock."""
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
            RunnerError: a dimension is open and the job gives no shape, or an input is not a tensor of
                numbers.
        """
        check_inputs(session, self.label)
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
        """Profile one run and check the provider and the precision in which its nodes ran.

        Raises:
            RunnerError: a node ran on another provider or in another precision than requested.
        """
        if self.provider == CPU and self.precision == "fp32" and not self.layers:
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
        nodes = [
            event["args"] | {"name": event["name"]}
            for event in events
            if event.get("cat") == "Node" and "provider" in event.get("args", ())
        ]
        check_node_placement(nodes, self.provider, self.precision, self.fallback)
        check_layers(nodes, self.layers, whole=self.provider == CPU)

    def outputs(self, images: Array) -> list[list[float]]:
        """The first output for each image, flattened.

        Args:
            images: shape (n, channels, height, width); the model has one input, which reads them.
        """
        session = self.open()
        ((name, shape),) = self.input_shapes(session).items()
        dtype, batch = INPUT_TYPES[session.get_inputs()[0].type], shape[0]
        outputs: list[Array] = []
        for start in range(0, len(images), batch):
            part = np.resize(images[start : start + batch], (batch, *images.shape[1:]))
            outputs += list(session.run(None, {name: part.astype(dtype)})[0])
        return [[float(value) for value in output.ravel()] for output in outputs[: len(images)]]

    def open(self) -> onnxruntime.InferenceSession:
        """A new session.

        Raises:
            RunnerError: onnxruntime cannot load the model, or fell back to another provider.
        """
        try:
            session = onnxruntime.InferenceSession(self.path, self.options, providers=[self.provider])
        except Exception as error:  # the exceptions of onnxruntime have no common base class
            raise RunnerError(self._load_error(" ".join(str(error).split()))) from None
        if session.get_providers()[0] != self.provider:
            raise RunnerError(f"onnxruntime fell back from {self.provider} to {session.get_providers()[0]}")
        return session

    def _load_error(self, reason: str) -> str:
        version = onnxruntime.__version__
        if any(sign in reason for sign in ("IR version", "ValidateOpsetForDomain", "opset versions")):
            return (
                f"onnxruntime {version} on this device is too old for {self.label}; "
                f"`{sys.executable} -m pip install --upgrade onnxruntime` there ({reason})"
            )
        return f"{self.label} is not an ONNX model that onnxruntime {version} can load: {reason}"
