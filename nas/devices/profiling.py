"""Profiles a device: measures latencies for a space, fits a latency model, and measures its error."""

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
from hw_profiles.mixing import check_mixture
from hw_profiles.run_settings import RunSettings
from hw_profiles.store import ProfileStore
from nas.devices.earlier_profile import (
    blocks_to_add,
    check_precision_of_space,
    check_same_device,
    check_same_profile,
    settings_of,
    with_added,
)
from nas.devices.merging import merged_rows, merged_settings
from nas.devices.profile_evaluation import build_profile
from nas.devices.profile_work import HELD_OUT, N_HELD_OUT, ProfileWork, check_block_timing
from nas.devices.settings import check_instruction_set, complete
from nas.progress import Progress, silent
from search_spaces import Space
from search_spaces.precision_space import base_space
from search_spaces.tensors import MIXED


def profile_device(
    space: Space,
    name: str,
    store: ProfileStore,
    *,
    connection: Connection | None = None,
    settings: RunSettings | None = None,
    n_held_out: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
    resume: bool = True,
    merge: tuple[Device, Device] | None = None,
) -> Device:
    """Measure a device and save its profile in `store`.

    If the device has a profile of the same space for other images, only the missing blocks are measured and
    added to its table.

    An interrupted call is continued by a call with the same arguments. An existing profile of the same name
    is replaced only when the new one is complete.

    Args:
        space: the space whose blocks and subnets are measured.
        name: name of the device.
        store: where the profile is saved.
        connection: how the device is reached; None: as in its existing profile, or this machine.
        settings: how networks are run; None: as in its existing profile, or the defaults. If the connection
            reads the results of an offline bundle, `settings`, `n_held_out` and `seed` of the bundle are
            used.
        n_held_out: number of subnets for the error of predictions, the smallest and the largest included;
            fewer if the space is small; None: `N_HELD_OUT`.
        seed: seed of random weights, subnets and the order of trials.
        progress: called after each trial.
        resume: if False, discard the trials of an interrupted call and replace an existing profile.
        merge: profiles of the device in fp32 and in INT8, whose tables are merged into a mixed profile; only
            the costs of borders and whole subnets are measured.

    Raises:
        NotMeasuredError: the user has to copy the bundle to the device first.
        ValueError: the name belongs to another device, space or run settings, the folder cannot be written or
            is in use, the device cannot be reached, its provider is not available, or it computes wrong
            outputs.
    """
    folder = store.folder(name) / BUNDLE
    chooses_precision, space = space is not base_space(space), base_space(space)
    existing = store.load(name) if name in store.names() else None
    connection = connection or (existing.profile.connection if existing else Local())
    if isinstance(connection, OfflineBundle) and connection.results:
        job = _offline_job(folder, space, name)
        connection = connection.model_copy(update={"whole": job.sentinel is None})
        settings, seed = RunSettings.model_validate(job.model_dump()), job.seed
        n_held_out = sum(model.id.startswith(HELD_OUT) for model in job.models)
    if merge:
        settings = merged_settings(*merge)
    settings = settings or settings_of(existing)
    check_precision_of_space(space, settings, chooses_precision)
    if settings.precision == MIXED:
        check_mixture(settings.provider)
        check_block_timing(connection.supports_block_timing)
    earlier = existing if resume else None
    if earlier:
        check_same_profile(earlier, space, settings)
    missing = blocks_to_add(earlier, space) if earlier and connection.supports_block_timing else {}
    rng = np.random.default_rng(seed)
    if missing and n_held_out:
        raise ValueError(
            f"--held-out has no effect: only {len(missing)} blocks are measured and added to the profile "
            f"{name!r}; leave it out, or measure all again with --restart"
        )
    if missing:
        work = ProfileWork.addition(space, missing)
    else:
        work = ProfileWork.plan(
            space,
            rng,
            precision=settings.precision,
            supports_block_timing=connection.supports_block_timing,
            n_held_out=N_HELD_OUT if n_held_out is None else n_held_out,
            rows=merged_rows(space, *merge) if merge else None,
        )
    try:
        with session.exclusive_access(store.folder(name)):
            description = connection.describe()
            if earlier:
                check_same_device(earlier, description or {})
            for part in merge or ():
                part.profile.check_same_device(description or {})
            settings = complete(settings, description)
            best_ms = earlier.profile.best_speed_probe_ms if earlier and missing else None
            write_bundle(folder, work.bundle(settings, rng, seed, best_ms))
            if not resume:
                connection.forget(folder)
            results = session.measure(
                connection, folder, lambda done, total: progress(f"profiling {name}", done, total)
            )
            check_instruction_set(settings, results)
            if earlier:
                check_same_device(earlier, results.device)
            stored = connection.without_paths if isinstance(connection, OfflineBundle) else connection
            if earlier and missing:
                device = with_added(earlier, work.block_frame(results), results)
            else:
                device = build_profile(work.measured_by(results), name, stored, settings, results)
            store.save(device)
            shutil.rmtree(folder)
    except OSError as error:
        raise ValueError(
            f"cannot write profiles to {store.directory}: {error.strerror}; give another folder with "
            f"--profiles DIR or NAS_HOME"
        ) from None
    return device


def _offline_job(folder: Path, space: Space, name: str) -> Job:
    """The job of the offline bundle that was written last."""
    if not folder.is_dir():
        raise ValueError(
            f"the device {name!r} has no unfinished bundle; write one with "
            f"`{profile_command(space.source, name)} --bundle DIR`"
        )
    job = read_job(folder)
    if job.space != space.name:
        raise ValueError(
            f"the bundle of the device {name!r} is of the space {job.space!r}, not {space.name!r}"
        )
    return job
