"""From a profile to a benchmark on another machine: a real sshd on loopback stands in for it."""

from pathlib import Path

import numpy as np
import pytest
from loopback import loopback

from hw_profiles.store import ProfileStore
from nas.devices.benchmark import benchmark_on
from nas.devices.profiling import profile_device
from nas.evaluation.trained_run import TrainedRun
from nas.export.export_run import export_subnets
from nas.search.options import SearchOptions
from nas.search.search_run import search_run

pytestmark = [pytest.mark.slow, pytest.mark.measures]


def test_all_subnets_that_a_search_returns_meet_the_limit_as_measured_there(
    trained: TrainedRun, tmp_path: Path
) -> None:
    store, space = ProfileStore(tmp_path / "profiles"), trained.space
    with loopback(tmp_path) as sshd:
        connection = sshd.connection()
        profile = profile_device(space, "far", store, connection=connection, n_held_out=12).profile
        if profile.too_noisy:
            pytest.skip(f"machine too noisy: noise floor {profile.noise_floor:.1%}")
        device = store.load("far")
        genomes = space.sample(np.random.default_rng(0), 100)
        limit = float(np.median(device.latency(space)(genomes)))
        options = SearchOptions(maxima=[f"latency_ms={limit}"], predictors=["ridge"], budget=40)
        front = search_run(trained, device, options).front
        assert len(front) >= 3
        assert front["keeps_limits"].all()
        assert front["measured_latency_ms"].notna().all()
        files = export_subnets(trained, "all")
        rows = benchmark_on(device.profile, [file.path for file in files])
    assert {row.measured_on for row in rows} == {"far"} == {row.device for row in rows}
    assert max(row.latency_ms for row in rows) <= limit
