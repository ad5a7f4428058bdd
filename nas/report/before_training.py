"""Evaluation of an imported network, and of its smallest subnet before the training of subnets."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import torch

from hw_profiles.measuring.runner.process_limits import usable_cores
from nas.evaluation.calibration import Calibration
from nas.evaluation.group import GroupEvaluation
from nas.evaluation.trained_run import TrainedRun
from nas.recipes.recipe import Recipe
from nas.recipes.recipe import parse as parse_recipe
from nas.report.final_test import ORIGINAL, UNTRAINED, subnet_row
from nas.runs.files import RECIPE
from nas.runs.run_dir import RunDir
from nas.runs.weights import load_supernet, trained_weights
from nas.tasks import metrics
from nas.torch_backend.supernet import Supernet
from nas.training.pretrained import ordering_images, sort_by_importance
from search_spaces import Arch

_log = logging.getLogger("nas")


def evaluate_before_training(trained: TrainedRun) -> pd.DataFrame:
    """Evaluate the imported network from which a run was trained, and its smallest subnet, on the test split.

    The network keeps its own running statistics; the batch norms of the subnet are recalibrated. The subnet
    has the weights, the order of channels and the blocks with which the training started.

    Returns:
        as `nas.report.final_test.final_test`; empty if the run was not trained from an imported network for
        the same outputs, or if the run of this network is missing.
    """
    found = _start(trained)
    if found is None:
        return pd.DataFrame({"group": []})
    recipe, original = found
    network, start = load_supernet(original), Supernet(trained.space).eval()
    start.load_state_dict(trained_weights(original))
    images = ordering_images(recipe, trained.space, trained.dataset, torch.device("cpu"))
    sort_by_importance(start, recipe.ordering.kind, images, trained.task.loss)
    largest, smallest = network.space.largest, start.space.smallest
    rows = [
        (ORIGINAL, largest, _metrics(trained, network, largest, recalibrate=False)),
        (UNTRAINED, smallest, _metrics(trained, start, smallest, recalibrate=True)),
    ]
    return pd.DataFrame([subnet_row(group, arch, values) for group, arch, values in rows])


def _metrics(trained: TrainedRun, supernet: Supernet, arch: Arch, *, recalibrate: bool) -> dict[str, float]:
    """The metrics of a subnet on the test split of a run; they are not stored in the archive."""
    table = {name: metrics.get(name, trained.task.metrics) for name in trained.task.shown}
    evaluation = GroupEvaluation(
        *(supernet, trained.dataset, trained.task, table, "test", Calibration()),
        *(trained.accelerator, trained.precision),
    )
    with evaluation.engine(usable_cores()) as engine:
        nets = evaluation.recalibrated([arch], engine) if recalibrate else [supernet.extract(arch)]
        (outcome,) = evaluation.evaluated([arch], nets, engine)
    if isinstance(outcome, ValueError):
        raise outcome
    return outcome


def _start(trained: TrainedRun) -> tuple[Recipe, RunDir] | None:
    """The recipe of a run, and the run of the imported network from which it was trained, if there is one."""
    if trained.info.imported or trained.info.arch:
        return None
    recipe = parse_recipe(trained.run.read_text(RECIPE), source=str(trained.run.file(RECIPE)))
    if recipe.init is None:
        return None
    if not Path(recipe.init).is_dir():
        _log.info("the report has no figures of the original network: there is no run %s", recipe.init)
        return None
    original = RunDir.open(recipe.init)
    info = original.info()
    is_network = info.imported is not None and not info.imported.subnets_trained
    same_outputs = info.output_names in ([], list(trained.dataset.output_names))
    return (recipe, original) if is_network and same_outputs else None
