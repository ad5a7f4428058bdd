"""The published OFA MobileNetV3 w1.0 space (Cai et al. 2020), with the flat genomes of published data."""

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
"""Choices of the 45 numbers of a flat genome: 20 kernels, 20 expand ratios and 5 depths."""
FLAT_COLUMNS = (
    *(f"ks{b}" for b in range(STAGES * BLOCKS)),
    *(f"e{b}" for b in range(STAGES * BLOCKS)),
    *(f"d{s}" for s in range(STAGES)),
)
"""Columns of these numbers in tables of measurements."""

_STAGE = "{{width: [{}], depth: [2, 3, 4], kernel: [3, 5, 7], expand: [3, 4, 6], stride: {}, {}}}"


def space(resolutions: Sequence[int] = (224,)) -> Space:
    """The space with the resolutions of the data."""
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
    """Convert a function of flat genomes that is a sum over blocks to a table.

    The entries are differences of the function when one block of the smallest subnet changes.
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
    """A shipped space of this family with the resolutions of the data."""
    shipped_space = search_spaces.get(name)
    return type(shipped_space)(
        shipped_space.config.model_copy(update={"resolutions": tuple(sorted(resolutions))})
    )  # type: ignore[call-arg]


def objective(path: str) -> ModuleType:
    """Load a Python file with the functions `accuracy`, `latency` and `hypervolume` of flat genomes."""
    spec = importlib.util.spec_from_file_location("objective", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"--objective must be a Python file, got {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(
    path: str, target: str, make: Callable[[Sequence[int]], Space] = space
) -> tuple[Space, Genomes, NDArray[np.float64]]:
    """Read a table of measurements.

    Args:
        path: path of the CSV file.
        target: column of the values.
        make: creates the space from its resolutions.

    Returns:
        space, genomes (n, n_genes) and values (n,).

    Raises:
        ValueError: a column is missing.
    """
    table = read_table(Path(path), [*FLAT_COLUMNS, "resolution", target])
    the_space = make(sorted({int(side) for side in table["resolution"]}))
    genomes = np.zeros((len(table), len(the_space.genes)), dtype=np.int64)
    columns = dict(zip(FLAT_NAMES, FLAT_COLUMNS, strict=True)) | {"resolution": "resolution"}
    for i, gene in enumerate(the_space.genes):
        values = table[columns[gene.name]].to_numpy()
        # blocks beyond the depth of a stage have any value, which the canonical form resets
        genomes[:, i] = np.minimum(np.searchsorted(gene.options, values), len(gene.options) - 1)
    return the_space, the_space.canonical(genomes), table[target].to_numpy(dtype=np.float64)
