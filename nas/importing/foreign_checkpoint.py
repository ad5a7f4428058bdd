"""Weights from files that other tools pickled. Nothing in them is ever executed."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._utils
from torch import Tensor

_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}
"""All that a pickled dict of tensors needs."""


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file that `torch.save` wrote, in its present or its old format, by name.

    They are looked for under the key `state_dict`, else the file is that dict itself. Whatever else was
    pickled (options, optimizer, objects of the tool's own classes) becomes an inert placeholder: a name in
    the file that is not in a short allow-list is neither imported nor called.

    Raises:
        ValueError: the file is missing, truncated, of another kind, or has no such tensors.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the checkpoint {path}: {error.strerror}") from None
    state = _unpickle(content, str(path))
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not any(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(
            f"{path} must hold a dict of tensors by name, by itself or under `state_dict`, "
            f"got {type(state).__name__}"
        )
    return {str(name): value.detach() for name, value in state.items() if isinstance(value, Tensor)}


def _unpickle(content: bytes, source: str) -> Any:
    if _is_torchscript(content):
        raise ValueError(f"{source} is a TorchScript program; give the file of weights that was trained")
    try:
        # bytes, not a path: torch would unpack an old tar file into a folder
        return torch.load(
            io.BytesIO(content),
            map_location="cpu",
            pickle_module=_InertPickle,
            weights_only=False,
            mmap=False,
        )
    except Exception as error:  # damaged bytes make torch's reader raise nearly anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{source} is truncated or no checkpoint: {reason:.200}") from None


def _is_torchscript(content: bytes) -> bool:
    """Such a file is a program, which `torch.load` would hand to another reader."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return any(name.endswith("constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


class _Inert:
    """Stands for an object of a class that is not imported; takes whatever a pickle does to it."""

    def __new__(cls, *args: object, **kwargs: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...

    def __setitem__(self, key: object, value: object) -> None: ...

    def append(self, item: object) -> None: ...

    def extend(self, items: object) -> None: ...

    def add(self, item: object) -> None: ...


class _Unpickler(pickle.Unpickler):
    """Finds the allowed names and nothing else (the pickle module's documentation, Restricting Globals)."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = _ALLOWED.get((module, name))
        if allowed is None:
            return type("Inert", (_Inert,), {})
        if isinstance(allowed, type):
            return allowed
        return lambda *args: allowed(*args)  # a pickle may set attributes: not on torch's own function


class _InertPickle:
    """What `torch.load` uses of a pickle module."""

    Unpickler = _Unpickler
    UnpicklingError = pickle.UnpicklingError

    @staticmethod
    def load(file: Any, **options: Any) -> Any:
        """One pickled value; the old format begins with several."""
        return _Unpickler(file, **options).load()
