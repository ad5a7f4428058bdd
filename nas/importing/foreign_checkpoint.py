"""Weights from files that other tools wrote. Nothing in them is ever executed."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
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
MAX_DEPTH = 2
"""Levels of keys below which no weights are looked for."""
AT_MOST = 5
"""Keys that a message lists."""


def read_state_dicts(path: str | Path) -> dict[str, dict[str, Tensor]]:
    """The sets of weights in a file, each by tensor names.

    The file is one that `torch.save` wrote, in its present or its old format, or a safetensors file. A set is
    a dict with tensors in it: the file itself (its key is empty), or what lies in it under a key such as
    `state_dict` or `model.state_dict`. Whatever else was pickled (options, optimizer, objects of the tool's
    own classes) becomes an inert placeholder: a name in the file that is not in a short allow-list is neither
    imported nor called.

    Raises:
        ValueError: the file is missing, truncated, of another kind, or has no such tensors.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the checkpoint {path}: {error.strerror}") from None
    read = _read_safetensors if content[8:9] == b"{" else _unpickle  # after the length of the header
    state = read(content, str(path))
    found = _sets("", state)
    if not found:
        raise ValueError(
            f"{path} must hold a dict of tensors by name, by itself or under a key; {_seen(state)}"
        )
    return found


def _sets(key: str, content: object, depth: int = 0) -> dict[str, dict[str, Tensor]]:
    if not isinstance(content, dict) or depth > MAX_DEPTH:
        return {}
    tensors = {str(name): value.detach() for name, value in content.items() if isinstance(value, Tensor)}
    found = {key: tensors} if tensors else {}
    for name, value in content.items():
        if isinstance(name, str):  # parameters of an optimizer have numbers
            found |= _sets(f"{key}.{name}" if key else name, value, depth + 1)
    return found


def _seen(state: object) -> str:
    """What is in a file without tensors, and what to do about it."""
    kinds = {str(key): type(value) for key, value in state.items()} if isinstance(state, dict) else {}
    pickled = [kind for kind in (type(state), *kinds.values()) if issubclass(kind, _Inert)]
    if pickled:
        return (
            f"it holds a whole object of the class {pickled[0].__name__}, which is not executed: write its "
            f"weights alone, by torch.save(model.state_dict(), FILE)"
        )
    if kinds:
        listed = ", ".join(f"{name} ({kind.__name__})" for name, kind in list(kinds.items())[:AT_MOST])
        return f"its {len(kinds)} keys are {listed}" + ", …" * (len(kinds) > AT_MOST)
    return f"got {type(state).__name__}"


def _read_safetensors(content: bytes, source: str) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{source} is truncated or no safetensors file: {error}") from None


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
            return type(name, (_Inert,), {})
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
