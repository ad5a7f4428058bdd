"""Reading of weights from files of other tools, without executing code from them."""

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

from search_spaces.checked import reason

_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}
"""The functions and classes that a pickled dict of tensors needs."""
MAX_DEPTH = 2
"""Maximum depth of keys at which weights are searched."""
AT_MOST = 5
"""Maximum number of keys in a message."""


def read_state_dicts(path: str | Path) -> dict[str, dict[str, Tensor]]:
    """Read the sets of weights in a file.

    The file is in the current or the old format of `torch.save`, or a safetensors file. A set of weights is a
    dict with tensors: the content of the file, or a dict in it under a key such as `state_dict` or
    `model.state_dict`. All other pickled objects (options, the optimizer, objects of the tool's own classes)
    are replaced by inert placeholders: names that are not in a short allow-list are neither imported nor
    called.

    Returns:
        tensors by name, for each set by its key, which is empty for the content of the file.

    Raises:
        ValueError: the file is missing, truncated or of another format, or has no such tensors.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the checkpoint {path}: {error.strerror}") from None
    read = _read_safetensors if content[8:9] == b"{" else _unpickle  # after the length of the header
    state = read(content, str(path))
    sets = _sets("", state)
    if not sets:
        raise ValueError(f"{path} must contain a dict of tensors by name; {_description(state)}")
    return sets


def _sets(key: str, content: object, depth: int = 0) -> dict[str, dict[str, Tensor]]:
    if not isinstance(content, dict) or depth > MAX_DEPTH:
        return {}
    tensors = {str(name): value.detach() for name, value in content.items() if isinstance(value, Tensor)}
    sets = {key: tensors} if tensors else {}
    for name, value in content.items():
        if isinstance(name, str):  # the keys of an optimizer's parameters are numbers
            sets |= _sets(f"{key}.{name}" if key else name, value, depth + 1)
    return sets


def _description(state: object) -> str:
    """Description of the content of a file without tensors, for messages."""
    kinds = {str(key): type(value) for key, value in state.items()} if isinstance(state, dict) else {}
    pickled = [kind for kind in (type(state), *kinds.values()) if issubclass(kind, _Inert)]
    if pickled:
        return (
            f"it contains a pickled object of the class {pickled[0].__name__}, which is not loaded: save "
            f"only the weights, with torch.save(model.state_dict(), FILE)"
        )
    if kinds:
        listed = ", ".join(f"{name} ({kind.__name__})" for name, kind in list(kinds.items())[:AT_MOST])
        return f"its {len(kinds)} keys are {listed}" + ", …" * (len(kinds) > AT_MOST)
    return f"got {type(state).__name__}"


def _read_safetensors(content: bytes, source: str) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{source} is truncated or not a safetensors file: {error}") from None


def _unpickle(content: bytes, source: str) -> Any:
    if _is_torchscript(content):
        raise ValueError(f"{source} is a TorchScript program; use a file with the trained weights")
    try:
        # bytes instead of a path: torch extracts old tar files into a folder
        return torch.load(
            io.BytesIO(content),
            map_location="cpu",
            pickle_module=_InertPickle,
            weights_only=False,
            mmap=False,
        )
    except Exception as error:  # for a damaged file, torch raises errors of many types
        raise ValueError(f"{source} is truncated or not a checkpoint: {reason(error):.200}") from None


def _is_torchscript(content: bytes) -> bool:
    """Whether the file is a TorchScript program, for which `torch.load` uses another reader."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return any(name.endswith("constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


class _Inert:
    """Placeholder for an object whose class is not imported; accepts all operations of a pickle."""

    def __new__(cls, *args: object, **kwargs: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...

    def __setitem__(self, key: object, value: object) -> None: ...

    def append(self, item: object) -> None: ...

    def extend(self, items: object) -> None: ...

    def add(self, item: object) -> None: ...


class _Unpickler(pickle.Unpickler):
    """Loads only allowed names (documentation of the pickle module, "Restricting Globals")."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = _ALLOWED.get((module, name))
        if allowed is None:
            return type(name, (_Inert,), {})
        if isinstance(allowed, type):
            return allowed
        return lambda *args: allowed(*args)  # a wrapper, because a pickle may set attributes of a function


class _InertPickle:
    """The part of the pickle module that `torch.load` uses."""

    Unpickler = _Unpickler
    UnpicklingError = pickle.UnpicklingError

    @staticmethod
    def load(file: Any, **options: Any) -> Any:
        """Load one pickled value; the old format has several."""
        return _Unpickler(file, **options).load()
