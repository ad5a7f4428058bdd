"""The weights of a trained supernet on disk."""

from __future__ import annotations

from collections.abc import Mapping

import safetensors
import safetensors.torch
from torch import Tensor

from nas.runs.commands import command
from nas.runs.files import RECIPE, SUPERNET
from nas.runs.run_dir import RunDir
from nas.torch_backend.supernet import Supernet

SCHEMA_VERSION = 1


def save_supernet(run: RunDir, weights: Mapping[str, Tensor]) -> None:
    """Write the weights of a trained supernet."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    run.write_bytes(SUPERNET, safetensors.torch.save(tensors, {"schema_version": str(SCHEMA_VERSION)}))


def load_supernet(run: RunDir) -> Supernet:
    """The trained supernet of a run, in eval mode.

    Raises:
        ValueError: the run is not trained yet, or the file is damaged or belongs to another space.
    """
    if not run.has(SUPERNET):
        resume = command("train", "--config", run.file(RECIPE), "--out", run.path, "--resume")
        raise ValueError(f"the run {run.path} is not trained yet; continue with `{resume}`")
    weights = trained_weights(run)
    supernet = Supernet(run.space())
    check_weights(weights, supernet.state_dict(), str(run.file(SUPERNET)))
    supernet.load_state_dict(weights)
    return supernet.eval()


def trained_weights(run: RunDir) -> dict[str, Tensor]:
    """The weights of a trained run, by name.

    Raises:
        ValueError: the file is damaged.
    """
    path = run.file(SUPERNET)
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is truncated or not a safetensors file: {error}") from None


def check_weights(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    """Check the names and shapes of weights.

    Raises:
        ValueError: names are missing or unknown, or shapes are wrong; the message lists the first errors.
    """
    problems = [f"missing {name}" for name in expected.keys() - weights.keys()]
    problems += [f"unknown {name}" for name in weights.keys() - expected.keys()]
    problems += [
        f"{name} has shape {tuple(weights[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected.keys() & weights.keys()
        if weights[name].shape != expected[name].shape
    ]
    if problems:
        examples = "; ".join(sorted(problems)[:5])
        raise ValueError(
            f"{source} does not fit the space of the run: {len(problems)} of its tensors differ ({examples})"
        )
