"""The elastic network that holds every subnet of a space."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from nas.network.dropout import Dropout
from nas.network.elastic import ElasticLayer
from nas.network.functional import run_network
from nas.network.static import StaticNet, put_module, weight_path
from search_spaces import Arch, Block, LayerSpec, Slot, Space


class Supernet(nn.Module):
    """All subnets of `space` in one set of weights; the active one is an argument of the call.

    Args:
        space: the search space.
        seed: of the initial weights.
        zero_init_residual: start the last batch norm of residual branches at 0, so that each block begins as
            its shortcut (BigNAS, Yu et al. 2020, §3.1). A slot that also holds blocks without a shortcut
            keeps its initial weights, which all its blocks share.
    """

    def __init__(self, space: Space, seed: int = 0, *, zero_init_residual: bool = True) -> None:
        super().__init__()
        self.space = space
        generator = torch.Generator().manual_seed(seed)
        for slot in space.slots:
            for widest in widest_layers(space, slot).values():
                layer = ElasticLayer(widest, slot.learned_kernels if widest.kernel > 1 else ())
                layer.reset(generator)
                put_module(self, weight_path(widest), layer)
        if zero_init_residual:
            self._zero_residual_branches()

    def forward(self, x: Tensor, arch: Arch, dropout: Dropout | None = None) -> Tensor:
        """Logits of one subnet.

        Args:
            x: images, shape (n, channels, arch.resolution, arch.resolution), or of any size where the
                network itself resizes them.
            arch: the active subnet.
            dropout: noise to train with.

        Returns:
            shape (n, classes).

        Raises:
            ValueError: the arch is not in the space, or the images have another size than its resolution.
        """
        blocks = self.space.blocks(arch)
        self._check_images(x, blocks[0][0])
        return run_network(blocks, x, self._weighted, fast=self.training, noise=dropout)

    def _check_images(self, x: Tensor, first: LayerSpec) -> None:
        size = tuple(x.shape[2:]) if first.op == "resize" else (first.size_in, first.size_in)
        expected = (first.c_in, *size)
        if tuple(x.shape[1:]) != expected:
            raise ValueError(
                f"images must have shape (n, {', '.join(map(str, expected))}), got {tuple(x.shape)}"
            )

    def _weighted(self, layer: LayerSpec, x: Tensor) -> Tensor:
        return self.layer(layer)(x, layer)  # type: ignore[no-any-return]

    def layer(self, layer: LayerSpec) -> ElasticLayer:
        """The elastic layer that holds the weights of `layer`."""
        module = self.get_submodule(weight_path(layer))
        assert isinstance(module, ElasticLayer)
        return module

    @property
    def classifier(self) -> ElasticLayer:
        """The last layer, whose outputs are the classes."""
        return self.layer(self.space.layers(self.space.largest)[-1])

    @torch.no_grad()
    def extract(self, arch: Arch, *, fast: bool = False) -> StaticNet:
        """A copy of one subnet as a plain network; its outputs equal `self(x, arch)`.

        Args:
            arch: the subnet.
            fast: outputs in eval mode may differ by rounding, and come 1.1 to 1.7 times as fast.

        Raises:
            ValueError: the arch is not in the space.
        """
        layers = self.space.layers(arch)
        with torch.device("meta"):  # no memory, no random weights: all of them are given below
            net = StaticNet(layers, fast=fast)
        state: dict[str, Tensor] = {}
        for layer in layers:
            if layer.op not in ("conv", "linear"):
                continue
            elastic, path = self.layer(layer), weight_path(layer)
            weight, bias = elastic.sliced(layer)
            state[f"{path}.weight"] = weight
            if bias is not None:
                state[f"{path}.bias"] = bias
            if elastic.norm is not None:
                for name, tensor in elastic.norm.state_dict().items():
                    state[f"{path}.norm.{name}"] = tensor[: layer.c_out]
                state[f"{path}.norm.num_batches_tracked"] = torch.tensor(0, device=weight.device)
        copies = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
        net.load_state_dict(copies, assign=True)
        return net.train(self.training)

    def _zero_residual_branches(self) -> None:
        for slot in self.space.slots:
            branches = [residual_branch(block) for block in self.space.slot_blocks(slot)]
            for branch in branches if all(branches) else []:
                assert branch is not None
                norm = self.layer(branch).norm
                assert norm is not None
                nn.init.zeros_(norm.weight)


def residual_branch(block: Block) -> LayerSpec | None:
    """The last layer of the branch that `block` adds to its shortcut; None if it may not start at zero.

    Without a shortcut a block of zeros would hide the image from all later layers. Behind an activation
    such as ReLU, zeros would pass no gradient back.
    """
    end = block[-1]
    if end.op != "add":
        return None
    branch = block[end.inputs[-1]]
    return branch if branch.activation == "none" else None


def widest_layers(space: Space, slot: Slot) -> dict[str, LayerSpec]:
    """For each role in a slot, a layer as wide as its widest choice."""
    widest: dict[str, LayerSpec] = {}
    for block in space.slot_blocks(slot):
        for layer in block:
            if layer.op not in ("conv", "linear"):
                continue
            other = widest.get(layer.name, layer)
            widest[layer.name] = replace(
                layer,
                c_in=max(layer.c_in, other.c_in),
                c_out=max(layer.c_out, other.c_out),
                kernel=max(layer.kernel, other.kernel),
                groups=max(layer.groups, other.groups),
            )
    return widest
