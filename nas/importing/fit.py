"""Tensors of published checkpoints under our names: which weights in a file fit, and what does not."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nas.importing.foreign_checkpoint import read_state_dicts
from nas.importing.published_names import UNUSED, canonical, published_name

_log = logging.getLogger("nas")

KEYS = ("state_dict", "model_state_dict", "model", "")
"""Keys under which tools keep the weights, in the order in which they are preferred."""
AT_MOST = 3
"""Names that a message lists of each kind."""


def read_as(
    path: str | Path,
    own: Mapping[str, Tensor],
    modules: Mapping[str, str],
    unused: str = UNUSED,
    key: str | None = None,
) -> dict[str, Tensor]:
    """The tensors of a checkpoint under our names, as float32.

    Names may all have one prefix, such as `model.`; tensors without it belong to something else. Of several
    sets of weights that fit, the first in the order of `KEYS` is read, averages (`ema`) last.

    Args:
        path: the file.
        own: our tensors, which say what must be there and of which shape.
        modules: as for `published_name`.
        unused: pattern of the canonical names that may be there beyond that.
        key: the set to read, as `read_state_dicts` names them; None: as above.

    Raises:
        ValueError: an unreadable file, numbers that are not finite, or one message of what is missing,
            surplus or of another shape in the set that fits best.
    """
    sets = read_state_dicts(path)
    if key is not None and key not in sets:
        raise ValueError(f"--key must be one of {sorted(sets)}, which have tensors in {path}, got {key!r}")
    theirs = {name: published_name(name, modules) for name in own}
    fits = [
        _fit(name, prefix, tensors, own, theirs, unused)
        for name, tensors in sets.items()
        if key in (None, name)
        for prefix in _prefixes(tensors, set(theirs.values()))
    ]
    if not fits:
        first = ", ".join([*next(iter(sets.values()))][:AT_MOST])
        raise ValueError(
            f"{path} does not fit: no tensor has a name such as {next(iter(theirs.values()))}; tensors are "
            f"under {_keys(sets)} and begin with {first}"
        )
    best = min(fits, key=lambda fit: (bool(fit.problems), -len(fit.tensors), _rank(fit)))
    if best.problems:
        raise ValueError(f"{path} does not fit: {_listed(best.problems)}; tensors are under {_keys(sets)}")
    _check_finite(best, str(path))
    others = [fit.place for fit in fits if not fit.problems and fit is not best]
    if others:
        _log.info("weights are read from %s; %s has others in %s", best.place, path, ", ".join(others))
    return best.tensors


@dataclass(frozen=True)
class _Fit:
    """A set of weights, or the part of it that has a prefix, and how it fits our tensors."""

    key: str
    prefix: str
    tensors: dict[str, Tensor]
    """By our names."""
    problems: Mapping[str, list[str]]
    """Names by what is wrong with them; empty where all is well."""

    @property
    def place(self) -> str:
        """Where the tensors are, for messages."""
        return f"{self.key or 'the file itself'}" + f" (prefix {self.prefix})" * bool(self.prefix)


def _fit(
    key: str,
    prefix: str,
    tensors: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    theirs: Mapping[str, str],
    unused: str,
) -> _Fit:
    missing, surplus, misshapen = [], [], []
    wanted = set(theirs.values())
    found: dict[str, tuple[str, Tensor]] = {}
    for name, tensor in tensors.items():
        known = canonical(name)
        if not known.startswith(prefix):
            continue
        known = known.removeprefix(prefix)
        if known in found or (known not in wanted and not re.search(unused, known)):
            surplus.append(name)
        found.setdefault(known, (name, tensor))
    fitting = {}
    for name, like in own.items():
        full_name, tensor = found.get(theirs[name], ("", like))
        if not full_name:
            missing.append(theirs[name])
        elif _shape(tensor, like) != like.shape:
            misshapen.append(f"{full_name} {tuple(tensor.shape)} instead of {tuple(like.shape)}")
        else:
            fitting[name] = tensor.reshape(like.shape).to(torch.float32)
    problems = {"missing": missing, "surplus": surplus, "of another shape": misshapen}
    return _Fit(key, prefix, fitting, {kind: names for kind, names in problems.items() if names})


def _prefixes(tensors: Mapping[str, Tensor], wanted: set[str]) -> list[str]:
    """What stands before names that we look for, most frequent first; nothing where no name fits."""
    counts: Counter[str] = Counter()
    for name in map(canonical, tensors):
        starts = [0, *(match.end() for match in re.finditer(r"\.", name))]
        counts.update(name[:start] for start in starts if name[start:] in wanted)
    return [prefix for prefix, _ in counts.most_common()]


def _rank(fit: _Fit) -> tuple[bool, int]:
    """Order of equally good sets: averages last, then as in `KEYS`."""
    average = "ema" in re.split(r"[._]", f"{fit.key}.{fit.prefix}".lower())
    return average, KEYS.index(fit.key) if fit.key in KEYS else len(KEYS)


def _check_finite(fit: _Fit, source: str) -> None:
    names = [name for name, tensor in fit.tensors.items() if not tensor.isfinite().all()]
    if names:
        raise ValueError(f"{source} must hold finite numbers: {_listed({'with NaN or infinity': names})}")


def _keys(sets: Mapping[str, Mapping[str, Tensor]]) -> str:
    """The sets of weights and their sizes, for messages."""
    texts = [f"{key or 'the file itself'} ({len(tensors)})" for key, tensors in sets.items()]
    return ", ".join(texts[:AT_MOST]) + ", …" * (len(texts) > AT_MOST)


def _shape(tensor: Tensor, like: Tensor) -> torch.Size:
    """A linear layer may be written as a 1×1 convolution."""
    return tensor.shape[:2] if like.ndim == 2 and tensor.shape[2:] == (1, 1) else tensor.shape


def _listed(problems: Mapping[str, list[str]], at_most: int = AT_MOST) -> str:
    """Counts and the first names of each kind."""
    texts = []
    for kind, names in problems.items():
        if names:
            more = ", …" * (len(names) > at_most)
            texts.append(f"{len(names)} {kind} ({', '.join(names[:at_most])}{more})")
    return "; ".join(texts)
