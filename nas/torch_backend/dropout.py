"""Noise inside a network while it trains."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import stochastic_depth

from nas.torch_backend.functional import Compute
from search_spaces import Block, Node, Space
from search_spaces import operators as ops


class Dropout:
    """Dropout before the classifier, and drop-connect of residual branches.

    Drop-connect (stochastic depth, Huang et al. 2016) lets some images of a batch skip a branch; its rate
    rises linearly from block to block, as in EfficientNet (Tan and Le 2019).

    Args:
        space: whose subnets are trained.
        features: share of the features that is dropped.
        branches: rate at the end of the network.
        stages: how many of the last stages have drop-connect; None: all.
    """

    def __init__(self, space: Space, features: float, branches: float, stages: int | None = None) -> None:
        self.features = features
        slots = [(slot.name, slot.stage) for slot in space.slots if slot.stage is not None]
        first = 0 if stages is None else slots[-1][1] + 1 - stages
        self.rates = {
            name: branches * i / len(slots) for i, (name, stage) in enumerate(slots) if stage >= first
        }

    def __call__(self, compute: Compute, block: Block) -> Compute:
        """`compute` of a block with the noise added; it is drawn from torch's global generator."""
        branch = None if block.branch is None else block.branch.path
        rate = self.rates.get(block.name, 0.0)

        def noisy(node: Node, inputs: Sequence[Tensor]) -> Tensor:
            if isinstance(node.op, ops.Linear):
                inputs = [F.dropout(inputs[0], self.features)]
            out = compute(node, inputs)
            return stochastic_depth(out, rate, "row") if node.path == branch and rate else out

        return noisy
