"""Evaluation on the test split, after all subnets are selected."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from nas.evaluation.trained_run import TrainedRun
from nas.progress import Progress, silent
from search_spaces import Arch
from search_spaces.precision_space import float_arch

N_RANDOM = 100
"""Number of random subnets whose median describes the supernet."""
LARGEST, SMALLEST, RANDOM, CHOSEN = "largest", "smallest", "random", "chosen"
TRAINED = "trained"
ORIGINAL, UNTRAINED = "original", "untrained"


def final_test(
    trained: TrainedRun, selected: Sequence[Arch] = (), *, progress: Progress = silent
) -> pd.DataFrame:
    """Evaluate on the test split: the largest and the smallest subnet, random ones, and the selected ones.

    In a fine-tuned run only its subnet is evaluated.

    Only a report may call this, because subnets must not be selected by results on the test split.

    Args:
        trained: the run.
        selected: subnets that a search returned; they are evaluated in fp32.
        progress: called after each subnet.

    Returns:
        `group` (largest, smallest, random, chosen or trained), `arch_id`, `arch` and the metrics.
    """
    space = trained.space
    if trained.info.arch:
        return _evaluated(trained, [(TRAINED, trained.info.arch)], progress)
    random = space.decode(space.sample(np.random.default_rng(0), N_RANDOM))
    groups = [(LARGEST, space.largest), (SMALLEST, space.smallest)]
    groups += [(RANDOM, arch) for arch in random]
    groups += [(CHOSEN, arch) for arch in dict.fromkeys(selected)]
    return _evaluated(trained, groups, progress)


def _evaluated(trained: TrainedRun, groups: Sequence[tuple[str, Arch]], progress: Progress) -> pd.DataFrame:
    archs = [float_arch(trained.space, arch) for _, arch in groups]
    metrics = trained.evaluator(split="test")(archs, "test", progress=progress)
    return pd.DataFrame(
        [
            {"group": group, "arch_id": arch.id, "arch": arch, **values}
            for (group, arch), values in zip(groups, metrics, strict=True)
        ]
    )
