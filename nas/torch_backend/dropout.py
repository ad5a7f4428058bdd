"""Dropout and stochastic depth for the training of subnets."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import stochastic_depth

from nas.torch_backend.functional import Compute
from search_spaces import Block, Node, Space
from search_spaces import operators as ops


class Dropout:
    """Dropout before the classifier, and drop-connect in residual branches.

    With drop-connect (stochastic depth, Huang et al. 2016), random images of a batch skip a branch. Its rate
    rises linearly from block to block, as in EfficientNet (Tan and Le 2019).

    Args:
        space: the space of the supernet.
        features: dropout rate of the features, between 0 and 1.
        branches: drop-connect rate at the end of the network, between 0 and 1.
        stages: number of stages, counted from the last one, that have drop-connect; None: all.
    """

    def __init__(self, space: Space, features: float, branches: float, stages: int | None = None) -> None:
        self.features = features
        slots = [(slot.name, slot.stage) for slot in space.slots if slot.stage is not None]
        first = 0 if stages is None else slots[-1][1] + 1 - stages
        self.rates = {
            name: branches * i / len(slots) for i, (name, stage) in enumerate(slots) if stage >= first
        }

    def __call__(self, compute: Compute, block: Block) -> Compute:
        """Wrap `compute` of a block so that it adds the noise, drawn from torch's global generator."""
        branch = None if block.branch is None else block.branch.path
        rate = self.rates.get(block.name, 0.0)

        def noisy(node: Node, inputs: Sequence[Tensor]) -> Tensor:
            if isinstance(node.op, ops.Linear) and node.specs[0].layout == "vector":
                inputs = [F.dropout(inputs[0], self.features)]
            out = compute(node, inputs)
            return stochastic_depth(out, rate, "row") if node.path == branch and rate else out

        return noisy
