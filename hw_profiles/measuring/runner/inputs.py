"""Random inputs for any model."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime

from hw_profiles.measuring.runner.errors import RunnerError

INPUT_TYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(bool)": np.bool_,
    **{f"tensor({kind}{bits})": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}
Array = Any  # numpy.ndarray; numpy for Python 3.8 has no generic arrays


def check_inputs(session: onnxruntime.InferenceSession, label: str) -> None:
    """Check that the inputs of a model can be filled with random values.

    Raises:
        RunnerError: an input is not a tensor, or has a type that numpy does not support.
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
    """Bind inputs and outputs to the memory of an accelerator, so that no copy to or from it is timed."""
    binding = session.io_binding()
    for name, value in inputs.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value, memory, 0))
    for output in session.get_outputs():
        binding.bind_output(output.name, memory)
    return binding
