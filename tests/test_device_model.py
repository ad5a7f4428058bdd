"""Devices whose latencies are predicted by a fit to whole networks: saved, loaded, searched."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import make_device

import search_spaces
from hw_profiles.device import Device
from hw_profiles.device_files import FITTED
from hw_profiles.latency_models.selection import LAYERS, TABLE_AND_LAYERS
from hw_profiles.store import ProfileStore
from nas import tasks
from nas.search.search_problem import make_problem
from search_spaces import Block, Space

TASK = tasks.get("classification")


def cost_ms(block: Block) -> float:
    return 0.01 * len(block.nodes) + 1e-6 * block.macs


def fitted_device(space: Space, model: str) -> Device:
    """A device as whole networks alone give it (`LAYERS`), or with a table in addition."""
    archs = space.decode(space.sample(np.random.default_rng(0), 20))
    ms = [sum(map(cost_ms, space.blocks(arch))) for arch in archs]
    fitted = pd.DataFrame({"arch": [arch.to_json() for arch in archs], "measured_latency_ms": ms})
    device = replace(make_device(space), fitted=fitted)
    update = {"latency_model": model, "n_calibration": 20}
    if model == LAYERS:
        update |= {"n_blocks": 0, "calibration": None}
        device = replace(device, blocks=device.blocks.iloc[:0], boundaries=device.boundaries.iloc[:0])
    return replace(device, profile=device.profile.model_copy(update=update))


@pytest.mark.parametrize("model", [LAYERS, TABLE_AND_LAYERS])
def test_a_loaded_device_predicts_with_what_was_chosen(tiny: Space, tmp_path: Path, model: str) -> None:
    device, store = fitted_device(tiny, model), ProfileStore(tmp_path)
    store.save(device)
    genomes = tiny.sample(np.random.default_rng(1), 50)
    before, after = (each.latency(tiny)(genomes) for each in (device, store.load(device.profile.name)))
    np.testing.assert_allclose(before, after, rtol=1e-9)
    truth = [sum(map(cost_ms, tiny.blocks(arch))) for arch in tiny.decode(genomes)]
    np.testing.assert_allclose(before, truth, rtol=0.03)


def test_a_search_sees_it_like_a_table(tiny: Space) -> None:
    device = fitted_device(tiny, LAYERS)
    problem = make_problem(tiny, TASK, device, ["latency_ms", "macs"], ["latency_ms=1"])
    genomes = tiny.sample(np.random.default_rng(1), 5)
    np.testing.assert_array_equal(problem.as_minimization(genomes, {})[:, 0], device.latency(tiny)(genomes))


def test_a_fit_knows_its_own_space_alone(tiny: Space) -> None:
    with pytest.raises(ValueError, match=r"lacks \d+ blocks of the space 'digits'.* --device desk-digits`"):
        fitted_device(tiny, LAYERS).latency(search_spaces.get("digits"))


def test_truncated_measurements_are_refused(tiny: Space, tmp_path: Path) -> None:
    store, device = ProfileStore(tmp_path), fitted_device(tiny, LAYERS)
    path = store.save(device) / FITTED
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]))
    with pytest.raises(ValueError, match=r"fitted.csv must have 20 rows, got 4"):
        store.load(device.profile.name)
