"""The training log: losses, metrics and costs of the subnets."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search_spaces import Arch, Space

ROLES = ("largest", "smallest", "random")


@dataclass(frozen=True, slots=True)
class TrainedSubnet:
    """The result of a step for one of its subnets; means over the images of all processes."""

    arch: Arch
    loss: float
    metric: float
    """The task's headline metric on the step's augmented images; NaN where it is not defined."""


class TrainingLog:
    """Means over several steps, for the largest, the smallest and all other subnets.

    Args:
        space: the space of the subnets.
        steps: number of steps per row.
        metric: name of the task's headline metric.
    """

    def __init__(self, space: Space, steps: int, metric: str) -> None:
        self.space = space
        self.steps = steps
        self.metric = metric
        self.rows: list[dict[str, float]] = []
        self.pending: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
        """Loss, metric and MACs of the subnets since the last row, by role."""

    def add(self, step: int, lr: float, subnets: Sequence[TrainedSubnet]) -> bool:
        """Add the results of a step.

        Args:
            step: number of completed steps, including this one.
            lr: learning rate of the step.
            subnets: results of its subnets.

        Returns:
            whether the step completes a row.
        """
        for subnet in subnets:
            values = (subnet.loss, subnet.metric, float(self.space.macs(subnet.arch)))
            self.pending[self._role(subnet.arch)].append(values)
        if step % self.steps:
            return False
        row: dict[str, float] = {"step": step, "lr": lr}
        for role in ROLES:
            means = np.mean(self.pending[role], axis=0) if self.pending[role] else [math.nan] * 3
            names = (f"loss_{role}", f"{self.metric}_{role}", f"macs_{role}")
            row |= {name: float(mean) for name, mean in zip(names, means, strict=True)}
        self.rows.append(row)
        self.pending.clear()
        return True

    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"rows": self.rows, "pending": dict(self.pending)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.rows = list(state["rows"])
        self.pending = defaultdict(list, state["pending"])

    def _role(self, arch: Arch) -> str:
        corners = {"largest": self.space.largest, "smallest": self.space.smallest}
        for role, corner in corners.items():
            if arch == corner | {"resolution": arch["resolution"]}:
                return role
        return "random"
