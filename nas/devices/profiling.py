"""Measures the latency of a space's subnets on a device, and how good its predictions are."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from hw_profiles.command import profile_command
from hw_profiles.connections.base import Connection
from hw_profiles.connections.local import Local
from hw_profiles.connections.offline_bundle import OfflineBundle
from hw_profiles.device import Device
from hw_profiles.device_files import BUNDLE
from hw_profiles.measuring import session
from hw_profiles.measuring.bundle import Job, read_job, write_bundle
from hw_profiles.run_settings import RunSettings
from hw_profiles.store import ProfileStore
from nas.devices.earlier_profile import (
    blocks_to_add,
    refuse_other_device,
    refuse_other_profile,
    settings_of,
    with_added,
)
from nas.devices.profile_evaluation import evaluate
from nas.devices.profile_work import HELD_OUT, N_HELD_OUT, ProfileWork
from nas.devices.settings import complete, refuse_other_instruction_set
from nas.progress import Progress, silent
from search_spaces import Space


def profile_device(
    space: Space,
    name: str,
    store: ProfileStore,
    *,
    connection: Connection | None = None,
    settings: RunSettings | None = None,
    n_held_out: int = N_HELD_OUT,
    seed: int = 0,
    progress: Progress = silent,
    resume: bool = True,
) -> Device:
    """Measure a device and save the result in `store`.

    A device that was profiled for the same space with other images is measured for the lacking blocks alone,
    which are added to its table.

    Stopped at any moment, it goes on where it was when called again with the same arguments; a profile that
    the name already has stays as it is until the new one is whole.

    Args:
        space: its blocks are measured.
        name: of the device.
        store: where the profile goes.
        connection: how the device is reached; None: as the profile says that the name has, or this machine.
        settings: how networks are run; None: as the profile says that the name has, or the defaults. This,
            `n_held_out` and `seed` are those of the bundle where the connection brings its results back.
        n_held_out: subnets that the predictions are judged on, the smallest and the largest among them; fewer
            where the space is small.
        seed: decides random weights, subnets and the order of trials.
        progress: told about the trials.
        resume: False: forget what an earlier call, stopped half-way, has measured, and replace the profile
            that the name has, whatever was measured for it.

    Raises:
        NotMeasuredError: a person carries the bundle.
        ValueError: the name belongs to another device, space or way of running networks, the folder cannot be
            written or is in use, the device cannot be reached, its provider is not available, or it computes
            wrongly.
    """
    folder = store.folder(name) / BUNDLE
    there = store.load(name) if name in store.names() else None
    connection = connection or (there.profile.connection if there else Local())
    if isinstance(connection, OfflineBundle) and connection.results:
        job = _waiting(folder, space, name)
        connection = connection.model_copy(update={"whole": job.sentinel is None})
        settings, seed = RunSettings.model_validate(job.model_dump()), job.seed
        n_held_out = sum(model.id.startswith(HELD_OUT) for model in job.models)
    settings = settings or settings_of(there)
    earlier = there if resume else None
    if earlier:
        refuse_other_profile(earlier, space, settings)
    lacking = blocks_to_add(earlier, space) if earlier and connection.supports_block_timing else []
    rng = np.random.default_rng(seed)
    if lacking:
        work = ProfileWork.addition(space, lacking)
    else:
        work = ProfileWork.plan(
            space, rng, supports_block_timing=connection.supports_block_timing, n_held_out=n_held_out
        )
    try:
        with session.exclusive_access(store.folder(name)):
            told = connection.describe()
            if earlier:
                refuse_other_device(earlier, told or {})
            settings = complete(settings, told)
            gauge = earlier.profile.best_speed_probe_ms if earlier and lacking else None
            write_bundle(folder, work.bundle(settings, rng, seed, gauge))
            if not resume:
                connection.forget(folder)
            results = session.measure(
                connection, folder, lambda done, total: progress(f"profiling {name}", done, total)
            )
            refuse_other_instruction_set(settings, results)
            if earlier:
                refuse_other_device(earlier, results.device)
            lasting = connection.without_paths if isinstance(connection, OfflineBundle) else connection
            if earlier and lacking:
                device = with_added(earlier, work.block_frame(results), results)
            else:
                device = evaluate(work.measured_by(results), name, lasting, settings, results)
            store.save(device)
            shutil.rmtree(folder)
    except OSError as error:
        raise ValueError(
            f"cannot write profiles to {store.directory}: {error.strerror}; --profiles DIR or NAS_HOME names "
            f"another folder"
        ) from None
    return device


def _waiting(folder: Path, space: Space, name: str) -> Job:
    """The job of the bundle that was written to be carried."""
    if not folder.is_dir():
        raise ValueError(
            f"no bundle of the device {name!r} waits for results; "
            f"`{profile_command(space.source, name)} --bundle DIR` writes one"
        )
    job = read_job(folder)
    if job.space != space.name:
        raise ValueError(
            f"the bundle of the device {name!r} is of the space {job.space!r}, not {space.name!r}"
        )
    return job
