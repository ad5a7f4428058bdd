"""Selection of the weights in a published checkpoint, and their conversion to the names of this toolkit."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nas.importing.foreign_checkpoint import read_state_dicts
from nas.importing.name_list import name_list
from nas.importing.published_names import UNUSED, canonical, published_name

_log = logging.getLogger("nas")

KEYS = ("state_dict", "model_state_dict", "model", "")
"""Keys under which tools store the weights, in order of preference."""
AT_MOST = 3
"""Maximum number of keys in a message."""


def read_as(
    path: str | Path,
    own: Mapping[str, Tensor],
    modules: Mapping[str, str],
    unused: str = UNUSED,
    key: str | None = None,
) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint as float32, by the names of this toolkit.

    Args:
        path: the file.
        own: tensors of the network by the names of this toolkit; defines the required names and shapes.
        modules: as for `published_name`.
        unused: pattern of canonical names of tensors that the file may have in addition.
        key: as for `read_sets`.

    Raises:
        ValueError: as `read_sets` and `match`.
    """
    published = {name: published_name(name, modules) for name in own}
    return match(read_sets(path, key), str(path), own, published, unused)


def read_sets(path: str | Path, key: str | None = None) -> dict[str, dict[str, Tensor]]:
    """Read the sets of weights in a file, see `read_state_dicts`.

    Args:
        path: the file.
        key: key of the only set to return; None: all.

    Raises:
        ValueError: the file cannot be read, or has no such key.
    """
    sets = read_state_dicts(path)
    if key is None:
        return sets
    if key not in sets:
        raise ValueError(f"--key must be one of {sorted(sets)}, which have tensors in {path}, got {key!r}")
    return {key: sets[key]}


def first_set(
    sets: Mapping[str, Mapping[str, Tensor]], keys: Sequence[str], names: Collection[str], source: str
) -> tuple[str, dict[str, Tensor]]:
    """Select the set of weights of a network: the first in the order of `keys`, otherwise of the file.

    Args:
        sets: the sets of weights in a file by key.
        keys: keys in the order of the tool's own loader.
        names: canonical names of some tensors of the network.
        source: name of the file, for messages.

    Returns:
        the key of the set, and its tensors by canonical name.

    Raises:
        ValueError: no set has one of these tensors.
    """
    found = {key: prefix for key, tensors in sets.items() for prefix in prefixes(tensors, set(names))[:1]}
    if not found:
        raise no_such_tensor(sets, source, next(iter(names)))
    key = next((key for key in keys if key in found), next(iter(found)))
    others = [other or "the file itself" for other in found if other != key]
    if others:
        _log.info(
            "reading weights from %s; %s also has weights in %s (--key)", key, source, ", ".join(others)
        )
    tensors = {canonical(name): tensor for name, tensor in sets[key].items()}
    prefix = found[key]
    return key, {n.removeprefix(prefix): tensor for n, tensor in tensors.items() if n.startswith(prefix)}


def match(
    sets: Mapping[str, Mapping[str, Tensor]],
    source: str,
    own: Mapping[str, Tensor],
    published: Mapping[str, str],
    unused: str = UNUSED,
) -> dict[str, Tensor]:
    """Select the set of weights that matches a network.

    The names in the file may have a common prefix, such as `model.`; tensors without it are ignored. Of
    several sets of weights that match, the first one in the order of `KEYS` is selected; averages (`ema`) are
    last.

    Args:
        sets: the sets of weights in a file by key.
        source: name of the file, for messages.
        own: tensors of the network by the names of this toolkit; defines the required names and shapes.
        published: the canonical name in the file of each tensor of `own`.
        unused: pattern of canonical names of tensors that the file may have in addition.

    Returns:
        the tensors as float32, by the names of this toolkit.

    Raises:
        ValueError: a number is not finite, or no set matches; the message lists the missing tensors, the
            surplus tensors and the tensors of another shape in the set that matches best.
    """
    fits = [
        _fit(name, prefix, tensors, own, published, unused)
        for name, tensors in sets.items()
        for prefix in prefixes(tensors, set(published.values()))
    ]
    if not fits:
        raise no_such_tensor(sets, source, next(iter(published.values())))
    best = min(fits, key=lambda fit: (bool(fit.problems), -len(fit.tensors), _rank(fit)))
    if best.problems:
        raise ValueError(
            f"{source} does not match: {_listed(best.problems)}; the file has tensors under {_keys(sets)}"
        )
    _check_finite(best, source)
    others = [fit.location for fit in fits if not fit.problems and fit is not best]
    if others:
        _log.info(
            "reading weights from %s; %s also has weights in %s", best.location, source, ", ".join(others)
        )
    return best.tensors


def no_such_tensor(sets: Mapping[str, Mapping[str, Tensor]], source: str, name: str) -> ValueError:
    """The error for a file whose tensors have none of the names of the network, such as `name`."""
    first = ", ".join([*next(iter(sets.values()))][:AT_MOST])
    return ValueError(
        f"{source} does not match: no tensor has a name such as {name}; the file has tensors under "
        f"{_keys(sets)}, such as {first}"
    )


@dataclass(frozen=True)
class _Fit:
    """The tensors of a set that match the network, and the problems of the others."""

    key: str
    prefix: str
    tensors: dict[str, Tensor]
    """Matching tensors by the names of this toolkit."""
    problems: Mapping[str, list[str]]
    """Names of tensors by kind of problem; empty if all match."""

    @property
    def location(self) -> str:
        """Location of the tensors in the file, for messages."""
        return f"{self.key or 'the file itself'}" + f" (prefix {self.prefix})" * bool(self.prefix)


def _fit(
    key: str,
    prefix: str,
    tensors: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    published: Mapping[str, str],
    unused: str,
) -> _Fit:
    missing, surplus, misshapen = [], [], []
    required_names = set(published.values())
    by_canonical_name: dict[str, tuple[str, Tensor]] = {}
    for name, tensor in tensors.items():
        short_name = canonical(name)
        if not short_name.startswith(prefix):
            continue
        short_name = short_name.removeprefix(prefix)
        unexpected = short_name not in required_names and not re.search(unused, short_name)
        if short_name in by_canonical_name or unexpected:
            surplus.append(name)
        by_canonical_name.setdefault(short_name, (name, tensor))
    matching = {}
    for name, like in own.items():
        full_name, tensor = by_canonical_name.get(published[name], ("", like))
        if not full_name:
            missing.append(published[name])
        elif _shape(tensor, like) != like.shape:
            misshapen.append(f"{full_name} {tuple(tensor.shape)} instead of {tuple(like.shape)}")
        else:
            matching[name] = tensor.reshape(like.shape).to(torch.float32)
    problems = {"missing": missing, "surplus": surplus, "of another shape": misshapen}
    return _Fit(key, prefix, matching, {kind: names for kind, names in problems.items() if names})


def prefixes(tensors: Mapping[str, Tensor], required_names: set[str]) -> list[str]:
    """Prefixes of the required names in `tensors`, most frequent first; empty if no name is found."""
    counts: Counter[str] = Counter()
    for name in map(canonical, tensors):
        starts = [0, *(match.end() for match in re.finditer(r"\.", name))]
        counts.update(name[:start] for start in starts if name[start:] in required_names)
    return [prefix for prefix, _ in counts.most_common()]


def _rank(fit: _Fit) -> tuple[bool, int]:
    """Order of sets that match equally well: averages last, then as in `KEYS`."""
    average = "ema" in re.split(r"[._]", f"{fit.key}.{fit.prefix}".lower())
    return average, KEYS.index(fit.key) if fit.key in KEYS else len(KEYS)


def _check_finite(fit: _Fit, source: str) -> None:
    names = [name for name, tensor in fit.tensors.items() if not tensor.isfinite().all()]
    if names:
        raise ValueError(f"{source} must have finite numbers, got {_listed({'with NaN or infinity': names})}")


def _keys(sets: Mapping[str, Mapping[str, Tensor]]) -> str:
    """The sets of weights and their sizes, for messages."""
    texts = [f"{key or 'the file itself'} ({len(tensors)})" for key, tensors in sets.items()]
    return ", ".join(texts[:AT_MOST]) + ", …" * (len(texts) > AT_MOST)


def _shape(tensor: Tensor, like: Tensor) -> torch.Size:
    """Shape of `tensor`; for a linear layer stored as a 1×1 convolution, the shape of the linear layer."""
    return tensor.shape[:2] if like.ndim == 2 and tensor.shape[2:] == (1, 1) else tensor.shape


def _listed(problems: Mapping[str, list[str]]) -> str:
    """Number and names of the tensors of each kind of problem, for messages."""
    return "; ".join(f"{len(names)} {kind} ({name_list(names)})" for kind, names in problems.items() if names)
