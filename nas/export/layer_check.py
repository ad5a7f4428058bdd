"""Checks the precision that the layers of a mixed file run in on this machine."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from hw_profiles.measuring.runner.errors import RunnerError
from hw_profiles.measuring.runner.model import Model
from hw_profiles.run_settings import RunSettings
from nas.devices.asked_precision import layer_precisions


def check_layers_here(model: onnx.ModelProto) -> None:
    """Check that each layer of a model runs in its precision in a default session of ONNX Runtime.

    Raises:
        ValueError: a layer runs in another precision.
    """
    shapes = {
        tensor.name: [dim.dim_value or 1 for dim in tensor.type.tensor_type.shape.dim]
        for tensor in model.graph.input
    }
    layers = [layer.model_dump() for layer in layer_precisions(model)]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        try:
            Model(str(path), RunSettings().model_dump(), shapes, layers=layers).check_placement()
        except RunnerError as error:
            raise ValueError(f"the exported subnet must run in its own precisions: {error}") from None
