"""The option `--arch` of several commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search_spaces import Arch, Space


def find_arch(space: Space, name: str, seed: int = 0) -> Arch:
    """The arch of an option: `largest`, `smallest`, `random` (drawn with `seed`), or a JSON or YAML file.

    Raises:
        ValueError: as `nas.notation.arch_file.load_arch`.
    """
    import numpy as np

    from nas.notation.arch_file import load_arch

    if name == "largest":
        return space.largest
    if name == "smallest":
        return space.smallest
    if name == "random":
        return space.decode(space.sample(np.random.default_rng(seed), 1))[0]
    return load_arch(space, name)
