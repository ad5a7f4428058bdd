"""Evaluation on the test split, after all subnets are selected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from nas.evaluation.deployed import Target
from nas.evaluation.deployed_evaluator import DeployedEvaluator
from nas.evaluation.trained_run import TrainedRun
from nas.onnx_backend.precision import FP32
from nas.progress import Progress, silent
from nas.runs.tables import EVALUATED_AS, accuracy_in
from search_spaces import Arch, Space
from search_spaces.precision_space import PrecisionSpace, float_arch, space_of

N_RANDOM = 100
"""Number of random subnets whose median describes the supernet."""
LARGEST, SMALLEST, RANDOM, CHOSEN = "largest", "smallest", "random", "chosen"
TRAINED = "trained"
ORIGINAL, UNTRAINED = "original", "untrained"


def final_test(
    trained: TrainedRun,
    selected: Sequence[Arch] = (),
    *,
    target: Target | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Evaluate the largest, the smallest, random and the selected subnets on the test split.

    In a fine-tuned run, only its subnet is evaluated.

    Only a report may call this, because subnets must not be selected by results on the test split.

    Args:
        trained: the run.
        selected: subnets that a search returned.
        target: the deployment as which selected subnets are evaluated; None: fp32. All other subnets are
            evaluated in fp32.
        progress: called after each subnet.

    Returns:
        A row for each subnet: `group` (largest, smallest, random, chosen or trained), `arch_id`, `arch`, the
        metrics and `EVALUATED_AS`.
    """
    space = trained.space
    if trained.info.arch:
        return _evaluated(trained, [(TRAINED, trained.info.arch)], progress)
    target = target or Target()
    chosen = {arch: target.precision != FP32 and _has_int8(space, arch) for arch in selected}
    random = space.decode(space.sample(np.random.default_rng(0), N_RANDOM))
    groups = [(LARGEST, space.largest), (SMALLEST, space.smallest)]
    groups += [(RANDOM, arch) for arch in random]
    groups += [(CHOSEN, arch) for arch, as_deployed in chosen.items() if not as_deployed]
    table = _evaluated(trained, groups, progress)
    deployed = [arch for arch, as_deployed in chosen.items() if as_deployed]
    if not deployed:
        return table
    evaluator = DeployedEvaluator(trained, target, trained.evaluator().metrics, progress, "test")
    rows = [
        subnet_row(CHOSEN, arch, values, target.precision)
        for arch, values in zip(deployed, evaluator(deployed, "test"), strict=True)
    ]
    return pd.concat([table, pd.DataFrame(rows)], ignore_index=True)


def _has_int8(space: Space, arch: Arch) -> bool:
    """Whether a subnet is not entirely in fp32, on a device whose precision is not fp32."""
    own = space_of(space, arch)
    return not isinstance(own, PrecisionSpace) or own.has_int8(arch)


def _evaluated(trained: TrainedRun, groups: Sequence[tuple[str, Arch]], progress: Progress) -> pd.DataFrame:
    archs = [float_arch(trained.space, arch) for _, arch in groups]
    metrics = trained.evaluator(split="test")(archs, "test", progress=progress)
    return pd.DataFrame(
        [subnet_row(group, arch, values) for (group, arch), values in zip(groups, metrics, strict=True)]
    )


def subnet_row(group: str, arch: Arch, metrics: Mapping[str, float], precision: str = FP32) -> dict[str, Any]:
    """The row of a subnet in the table of the test split."""
    return {
        "group": group,
        "arch_id": arch.id,
        "arch": arch,
        **metrics,
        EVALUATED_AS: accuracy_in(precision),
    }
