"""Construction of a torch model from its name, and its weights from a file."""

from __future__ import annotations

import difflib
import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torchvision
from torch import Tensor, nn

from nas import plugins
from nas.importing.fit import match, read_sets
from nas.importing.published_names import canonical
from search_spaces.checked import errors_of

TORCHVISION_SIDES = (160, 192, 224)
"""Sides of the images of torchvision's and timm's models if no others are given, in pixels."""
_TORCHVISION_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    # without weights, both draw random weights slowly and warn about it
    "googlenet": {"init_weights": False},
    "inception_v3": {"init_weights": False},
}


def load_model(name: str, arguments: Sequence[str] = ()) -> nn.Module:
    """Build a model.

    Args:
        name: `torchvision:NAME`, `timm:NAME`, or `module:factory` of importable code: a function that returns
            a model, a class or a model. The current folder is searched too.
        arguments: arguments of the function, such as `num_classes=10`; values are JSON, or text.

    Raises:
        ValueError: there is no such model, or it cannot be built.
    """
    source, colon, model = name.partition(":")
    if not colon:
        raise ValueError(f"MODEL must be torchvision:NAME, timm:NAME or module:factory, got {name!r}")
    values = dict(map(_argument, arguments))
    if source == "torchvision":
        names = torchvision.models.list_models(module=torchvision.models)
        if model not in names:
            similar = difflib.get_close_matches(model, names, n=5, cutoff=0)
            raise ValueError(
                f"torchvision has no classification model {model!r}; similar ones are {', '.join(similar)}"
            )
        with errors_of(f"the model {name}"):
            defaults = _TORCHVISION_ARGUMENTS.get(model, {})
            return _checked(torchvision.models.get_model(model, weights=None, **{**defaults, **values}))
    if source == "timm":
        try:
            timm = importlib.import_module("timm")
        except ImportError:
            raise ValueError(f"{name} needs timm; install it with `pip install timm`") from None
        with errors_of(f"the model {name}"):
            return _checked(timm.create_model(model, pretrained=False, **values))
    factory: Any = plugins.resolve("model", name, {}, allow_import=True)
    with errors_of(f"the model {name}"):
        return _checked(factory if isinstance(factory, nn.Module) else factory(**values))


def load_weights(
    model: nn.Module, path: str | Path, key: str | None = None, *, by_order: bool = False
) -> None:
    """Read the weights of a model from a file, without executing code from it.

    Args:
        model: the model.
        path: file of torch or safetensors with a state dict, perhaps under a key such as `state_dict`.
        key: key of the weights in the file; None: the first ones that match.
        by_order: match tensors by their order and shape instead of their names, for weights of another
            implementation of the network.

    Raises:
        ValueError: the file cannot be read, or tensors are missing, surplus or of another shape; the message
            lists them.
    """
    own = {name: t for name, t in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    sets = read_sets(path, key)
    if by_order:
        sets = {key: _with_names(tensors, own, str(path)) for key, tensors in list(sets.items())[:1]}
    names = {name: canonical(name) for name in own}
    model.load_state_dict(match(sets, str(path), own, names), strict=False)


def _with_names(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The tensors of a file, renamed to the names of the tensors of a model in the same order."""
    found = {name: t for name, t in tensors.items() if not name.endswith("num_batches_tracked")}
    if len(found) != len(own):
        raise ValueError(f"{source} must have {len(own)} tensors, as the network, got {len(found)}")
    for (name, tensor), (expected, like) in zip(found.items(), own.items(), strict=True):
        if tensor.shape != like.shape:
            raise ValueError(
                f"{source}: {name} is matched with {expected} by its position, so it must have the shape "
                f"{tuple(like.shape)}, got {tuple(tensor.shape)}"
            )
    return dict(zip(own, found.values(), strict=True))


def _argument(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(f"--arg must look like name=value, got {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _checked(model: object) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise TypeError(f"must be a torch.nn.Module, got {type(model).__name__}")
    return model
