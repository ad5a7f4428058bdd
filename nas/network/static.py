"""One subnet as a plain network: ordinary torch modules, nothing elastic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.network.functional import run_network
from search_spaces import LayerSpec
from search_spaces.layers import split_blocks


class Conv(nn.Conv2d):
    """Convolution with the batch norm that follows it, if any."""

    def __init__(self, layer: LayerSpec) -> None:
        super().__init__(
            layer.c_in,
            layer.c_out,
            layer.kernel,
            layer.stride,
            layer.kernel // 2,
            groups=layer.groups,
            bias=layer.bias,
        )
        self.norm = nn.BatchNorm2d(layer.c_out, layer.norm_eps) if layer.norm_eps is not None else None

    def forward(self, x: Tensor) -> Tensor:
        """(n, c_in, h, w) -> (n, c_out, h', w')."""
        out = super().forward(x)
        return out if self.norm is None else self.norm(out)


class Linear(nn.Linear):
    """Linear layer on pooled maps."""

    def __init__(self, layer: LayerSpec) -> None:
        super().__init__(layer.c_in, layer.c_out, bias=layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c_in, 1, 1) or (n, c_in) -> (n, c_out)."""
        return F.linear(x.flatten(1), self.weight, self.bias)


class StaticNet(nn.Module):
    """The network that a tuple of layers describes.

    Weights are named after the layers: `stages.0.blocks.1.depthwise.weight`, `….norm.running_mean`.

    Args:
        layers: in topological order, as `Space.layers` gives them.
        fast: whether it may round otherwise than the supernet in eval mode too, see `run_network`.
    """

    def __init__(self, layers: Sequence[LayerSpec], *, fast: bool = False) -> None:
        super().__init__()
        self.fast = fast
        self.blocks = split_blocks(layers)
        for layer in layers:
            if layer.op in ("conv", "linear"):
                put_module(self, weight_path(layer), Conv(layer) if layer.op == "conv" else Linear(layer))

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, channels, resolution, resolution) -> logits (n, classes)."""
        fast = self.fast or self.training
        return run_network(
            self.blocks, x, lambda layer, x: self.get_submodule(weight_path(layer))(x), fast=fast
        )

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """All weights and statistics by name, as `nas.onnx_files.onnx_graph.build` reads them."""
        state = cast(Mapping[str, Tensor], self.state_dict())
        return {
            name: tensor.detach().cpu().numpy()
            for name, tensor in state.items()
            if not name.endswith("num_batches_tracked")
        }


def weight_path(layer: LayerSpec) -> str:
    """Name of the module that holds the weights of `layer`."""
    return f"{layer.block}.{layer.name}"


def put_module(root: nn.Module, path: str, module: nn.Module) -> None:
    """Register `module` in `root` under a dotted path, with plain modules as folders."""
    *folders, name = path.split(".")
    for folder in folders:
        if folder not in root._modules:
            root.add_module(folder, nn.Module())
        root = root.get_submodule(folder)
    root.add_module(name, module)
