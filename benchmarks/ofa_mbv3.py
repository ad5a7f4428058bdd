"""The published once-for-all MobileNetV3 w1.0 space (Cai et al. 2020), as others write its subnets down."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

import search_spaces
from hw_profiles.csv_tables import read_table
from search_spaces import Genomes, SlotTable, Space

STAGES, BLOCKS = 5, 4
FLAT_NAMES = (
    *(f"stages.{1 + b // BLOCKS}.blocks.{b % BLOCKS}.kernel" for b in range(STAGES * BLOCKS)),
    *(f"stages.{1 + b // BLOCKS}.blocks.{b % BLOCKS}.expand" for b in range(STAGES * BLOCKS)),
    *(f"stages.{1 + s}.depth" for s in range(STAGES)),
)
"""Our name of each of the 45 numbers of the flat form: 20 kernels, 20 expands, 5 depths."""
FLAT_COLUMNS = (
    *(f"ks{b}" for b in range(STAGES * BLOCKS)),
    *(f"e{b}" for b in range(STAGES * BLOCKS)),
    *(f"d{s}" for s in range(STAGES)),
)
"""The same in tables of measurements."""

_STAGE = "{{width: [{}], depth: [2, 3, 4], kernel: [3, 5, 7], expand: [3, 4, 6], stride: {}, {}}}"


def space(resolutions: Sequence[int] = (224,)) -> Space:
    """The space, with the resolutions that the data has."""
    relu, swish = "activation: relu", "activation: hard_swish"
    stages = [
        "{width: [16], stride: 1, activation: relu}",
        _STAGE.format(24, 2, relu),
        _STAGE.format(40, 2, f"{relu}, se: true"),
        _STAGE.format(80, 2, swish),
        _STAGE.format(112, 1, f"{swish}, se: true"),
        _STAGE.format(160, 2, f"{swish}, se: true"),
    ]
    return search_spaces.parse(
        f"""
name: ofa-mbv3-w1.0
outputs: 1000
channels: 3
resolutions: {sorted(resolutions)}
stem: {{width: [16]}}
stages: [{", ".join(stages)}]
head: {{width: [1280], pool_width: 960}}
"""
    )


def flat(space: Space, genomes: Genomes) -> Genomes:
    """Genomes in the flat order, shape (n, 45)."""
    return space.canonical(genomes)[:, space.columns(FLAT_NAMES)]


def summed(space: Space, compute: Callable[[Genomes], NDArray[np.float64]]) -> SlotTable:
    """A function of flat genomes that is known to add up over blocks, as the table that it is a sum of.

    Read off by changing one block of the smallest subnet at a time.
    """
    smallest = np.zeros(len(space.genes), dtype=np.int64)

    def value(genome: Genomes) -> float:
        return float(compute(flat(space, genome[None]))[0])

    entries = []
    for slot in space.slots:
        own = space.columns(slot.choices)
        without, present = smallest.copy(), smallest.copy()
        gate = space.columns([slot.depth] if slot.depth else [])
        first = sum(d <= slot.position for d in space.choices[slot.depth].options) if slot.depth else 0
        present[gate] = first
        without[gate] = max(first - 1, 0)
        rows = []
        for options in itertools.product(*(range(space.n_options[column]) for column in own)):
            rows.append(present.copy())
            rows[-1][own] = options
        entries.append(np.array([value(row) - value(without) for row in rows]))
    return SlotTable(space, entries, value(smallest))


def shipped(name: str, resolutions: Sequence[int]) -> Space:
    """A shipped space of this family, with the resolutions that the data has."""
    found = search_spaces.get(name)
    return type(found)(found.config.model_copy(update={"resolutions": tuple(sorted(resolutions))}))  # type: ignore[call-arg]


def objective(path: str) -> ModuleType:
    """The file with `accuracy`, `latency` and `hypervolume` over flat genomes at `path`, as a module."""
    spec = importlib.util.spec_from_file_location("objective", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"--objective must be a Python file, got {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(
    path: str, target: str, make: Callable[[Sequence[int]], Space] = space
) -> tuple[Space, Genomes, NDArray[np.float64]]:
    """Space, genomes (n, n_genes) and measured values (n,) of a table of measurements.

    Args:
        path: of the CSV.
        target: the column of the values.
        make: makes the space from its resolutions.

    Raises:
        ValueError: a column is missing.
    """
    table = read_table(Path(path), [*FLAT_COLUMNS, "resolution", target])
    the_space = make(sorted({int(side) for side in table["resolution"]}))
    genomes = np.zeros((len(table), len(the_space.genes)), dtype=np.int64)
    columns = dict(zip(FLAT_NAMES, FLAT_COLUMNS, strict=True)) | {"resolution": "resolution"}
    for place, gene in enumerate(the_space.genes):
        values = table[columns[gene.name]].to_numpy()
        # blocks beyond a stage's depth hold anything; the canonical form forgets them
        genomes[:, place] = np.minimum(np.searchsorted(gene.options, values), len(gene.options) - 1)
    return the_space, the_space.canonical(genomes), table[target].to_numpy(dtype=np.float64)
