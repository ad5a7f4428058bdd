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
    """Rows of means over some steps, for the largest, the smallest and all other subnets.

    Args:
        space: of the subnets.
        steps: how many make a row.
        metric: name of the task's headline metric.
    """

    def __init__(self, space: Space, steps: int, metric: str) -> None:
        self.space = space
        self.steps = steps
        self.metric = metric
        self.rows: list[dict[str, float]] = []
        self.noted: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
        """Loss, metric and MACs of the subnets since the last row, by role."""

    def add(self, step: int, lr: float, subnets: Sequence[TrainedSubnet]) -> bool:
        """Note a step, the `step`-th of the training; whether it ends a row."""
        for subnet in subnets:
            noted = (subnet.loss, subnet.metric, float(self.space.macs(subnet.arch)))
            self.noted[self._role(subnet.arch)].append(noted)
        if step % self.steps:
            return False
        row: dict[str, float] = {"step": step, "lr": lr}
        for role in ROLES:
            means = np.mean(self.noted[role], axis=0) if self.noted[role] else [math.nan] * 3
            names = (f"loss_{role}", f"{self.metric}_{role}", f"macs_{role}")
            row |= {name: float(mean) for name, mean in zip(names, means, strict=True)}
        self.rows.append(row)
        self.noted.clear()
        return True

    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"rows": self.rows, "noted": dict(self.noted)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` gave."""
        self.rows = list(state["rows"])
        self.noted = defaultdict(list, state["noted"])

    def _role(self, arch: Arch) -> str:
        corners = {"largest": self.space.largest, "smallest": self.space.smallest}
        for role, corner in corners.items():
            if arch == corner | {"resolution": arch["resolution"]}:
                return role
        return "random"
