"""A search as a step of a run: from a trained supernet and a device to a measured front on disk."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from hw_profiles.connections.base import Connection
from hw_profiles.device import Device
from hw_profiles.store import trusted_connection
from nas.evaluation.deployed import Target
from nas.evaluation.trained_run import TrainedRun
from nas.evaluation.workers import Workers
from nas.progress import Progress, silent
from nas.runs.lock import writes_run
from nas.search.check_options import (
    check_int8_evaluations,
    check_noise_ceiling,
    check_predictions,
    check_screening,
    check_small_space,
)
from nas.search.cost_estimate import estimate_cost
from nas.search.device_outcomes import OutcomeBuilder
from nas.search.options import SearchOptions
from nas.search.outcome_files import write_outcome
from nas.search.search_outcome import SearchOutcome
from nas.search.search_problem import make_problem
from nas.search.search_space import space_to_search
from nas.search.steps import SearchSteps
from nas.search.untrained import check_subnets_trained
from nas.search.validated_search import latencies_on

_log = logging.getLogger("nas")


@writes_run
def search_run(
    trained: TrainedRun,
    device: Device,
    options: SearchOptions | None = None,
    *,
    others: Sequence[Device] = (),
    workers: Workers | None = None,
    connection: Connection | None = None,
    measure: bool = True,
    progress: Progress = silent,
) -> SearchOutcome:
    """Search for the best subnets for a device, measure them there, and write everything to the run.

    An interrupted search continues when it is called again, because evaluations are stored in the archive.

    Args:
        trained: the run.
        device: where the subnets will run.
        options: the options of the search; None: the defaults.
        others: further devices, whose fronts are computed from their latency tables; `latency_ms` as an
            objective stands for the latency on each of them.
        workers: where subnets are evaluated; None: one thread per core.
        connection: used instead of the connection of the profile.
        measure: whether to measure latencies; False: the front has predicted latencies and is marked so.
        progress: called after each evaluation and measurement.

    Raises:
        NotMeasuredError: the device is measured by an offline bundle; everything is written, with predicted
            latencies.
        ValueError: a name is unknown, a table lacks blocks of the space, no subnet satisfies the limits, or
            the device cannot be reached, is not the device of the profile, or computes wrong outputs.
    """
    options = options or SearchOptions()
    if trained.info.arch:
        raise ValueError(f"the run {trained.run.path} has only one subnet: there is nothing to search")
    trained.run.check_writable("copy the run to a writable folder")
    check_subnets_trained(trained, workers)
    trained = trained.with_validation_images(options.validation_images)
    space = space_to_search(trained.space, [device, *others], options.bits)
    check_noise_ceiling(options, space)
    check_int8_evaluations(options, space, device.profile.name)
    check_screening(options, len(trained.dataset.split("validation")))
    check_small_space(options, space)
    problem = make_problem(
        space,
        trained.task,
        device,
        options.objectives,
        options.maxima,
        options.minima,
        others,
        allow_import=True,
    )
    check_predictions(options, problem)
    measured = latencies_on(device, trained, space)
    reached = (connection or trusted_connection(device)) if measure else None
    if reached:
        measured.prepare(reached)
    target = Target.of(device)
    steps = SearchSteps(trained, problem, options, target, workers, progress)
    cost = estimate_cost(trained, problem, options, workers, target)
    for line in cost.lines():
        _log.info("%s", line)
    findings = steps.search()
    builder = OutcomeBuilder(trained, [device, *others], problem, measured, cost, progress)
    write_outcome(trained, builder.outcome(findings, None), options)  # kept if a later step fails
    outcome = builder.outcome(steps.compare(findings), reached)
    for warning in outcome.own.warnings:
        _log.warning("%s", warning)
    write_outcome(trained, outcome, options)
    if outcome.own.validated.pending:
        raise outcome.own.validated.pending
    return outcome
