"""A static network for evaluation, with batch norms folded into the layers before them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nas.torch_backend.execution import Execution
from nas.torch_backend.functional import Weights, faster_layout
from nas.torch_backend.precision import CPU
from nas.torch_backend.static import StaticNet, module_at
from search_spaces import BLOCK_INPUT
from search_spaces import operators as ops
from search_spaces.graph import chain, fold_batch_norms


class FoldedNet:
    """Computes the outputs of a static network in eval mode, up to rounding, in less time and memory.

    Args:
        net: the network; later changes of its weights have no effect.
        device: device of the computation.
        dtype: type of the weights of convolutions and linear layers.
    """

    def __init__(
        self, net: StaticNet, device: torch.device = CPU, dtype: torch.dtype = torch.float32
    ) -> None:
        network, folded = fold_batch_norms(chain(net.blocks))
        weights: dict[str, Weights] = {}
        for node in network.nodes:
            if not node.parameters:
                continue
            own = node_weights(net, node.path)
            if node.path in folded:
                norm = folded[node.path]
                assert isinstance(norm.op, ops.BatchNorm)
                own = _folded(own, node_weights(net, norm.path), norm.op.eps)
            kind = dtype if isinstance(node.op, ops.Conv2d | ops.Linear) else torch.float32
            weights[node.path] = {name: faster_layout(w.to(device, kind)) for name, w in own.items()}
        self.network = network
        self._execution = Execution(network, weights)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Images (n, channels, height, width) -> outputs (n, ...)."""
        tensors = {BLOCK_INPUT: x}
        self._execution(tensors, 0, len(self.network.nodes))
        return tensors[self.network.outputs[0]]


def node_weights(net: nn.Module, path: str, device: torch.device = CPU) -> dict[str, Tensor]:
    """Weights and statistics of a node of a static network by name, without gradients."""
    module = module_at(net, path)
    tensors = {**module._parameters, **module._buffers}
    return {name: tensor.detach().to(device) for name, tensor in tensors.items() if tensor is not None}


def _folded(layer: Mapping[str, Tensor], norm: Mapping[str, Tensor], eps: float) -> dict[str, Tensor]:
    """Weight and bias of a layer that includes the batch norm after it."""
    scale = norm["weight"].double() * torch.rsqrt(norm["running_var"].double() + eps)
    bias = layer["bias"].double() if "bias" in layer else 0.0
    weight = layer["weight"].double() * scale.reshape(-1, *[1] * (layer["weight"].ndim - 1))
    bias = (bias - norm["running_mean"].double()) * scale + norm["bias"].double()
    return {"weight": weight.float(), "bias": bias.float()}
