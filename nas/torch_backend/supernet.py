"""The supernet: an elastic network with the shared weights of all subnets of a space."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from nas.torch_backend.dropout import Dropout
from nas.torch_backend.elastic import ElasticBatchNorm, ElasticOperator, elastic_operators
from nas.torch_backend.functional import Compute, Weights, run_network
from nas.torch_backend.static import StaticNet, put_module
from search_spaces import Arch, Block, Node, Space
from search_spaces import operators as ops

Rounding = Callable[[Tensor, Callable[[Node], Weights], Compute], Tensor]
"""See `nas.training.fake_quantization.FakeQuantization`."""


class Supernet(nn.Module):
    """A network with one set of weights for all subnets of `space`; the active subnet is an argument.

    Args:
        space: the search space.
        seed: seed of the initial weights.
        zero_init_residual: initialize the weight of the last batch norm of each residual branch with zeros,
            so that each block starts as the identity (BigNAS, Yu et al. 2020, §3.1). Slots that also have
            blocks without a shortcut are excluded, because all blocks of a slot share these weights.
    """

    def __init__(self, space: Space, seed: int = 0, *, zero_init_residual: bool = True) -> None:
        super().__init__()
        self.space = space
        self._operators: dict[str, ElasticOperator] = {}  # by path, for fast access
        generator = torch.Generator().manual_seed(seed)
        for slot in space.slots:
            for path, module in elastic_operators(space.slot_blocks(slot), slot.learned_kernels).items():
                module.reset(generator)
                put_module(self, path, module)
                self._operators[path] = module
        if zero_init_residual:
            self._zero_residual_branches()

    def forward(self, x: Tensor, arch: Arch, dropout: Dropout | None = None) -> Tensor:
        """Compute the logits of one subnet.

        Args:
            x: images, shape (n, channels, resolution, resolution) with the resolution of `arch`, or of any
                size if the network resizes its input.
            arch: the active subnet.
            dropout: dropout and drop-connect for training.

        Returns:
            shape (n, outputs of the space).

        Raises:
            ValueError: the arch is not in the space, or the shape of the images is wrong.
        """
        blocks = self.space.blocks(arch)
        self._check_images(x, blocks[0])
        return run_network(blocks, x, self._compute, fast=self.training, noise=dropout)

    def with_rounding(self, x: Tensor, arch: Arch, rounding: Rounding) -> Tensor:
        """The logits of one subnet with the rounding of its quantized file.

        Args:
            x: as for `forward`.
            arch: the subnet.
            rounding: computes the subnet with rounding, see `FakeQuantization`.

        Raises:
            ValueError: as `forward`.
        """
        self._check_images(x, self.space.blocks(arch)[0])
        return rounding(x, lambda node: self.operator(node).sliced(node), self._compute)

    def _check_images(self, x: Tensor, first: Block) -> None:
        spec = first.inputs[0]
        size = tuple(x.shape[2:]) if isinstance(first.nodes[0].op, ops.Resize) else spec.size
        expected = (spec.channels, *size)
        if tuple(x.shape[1:]) != expected:
            raise ValueError(
                f"images must have shape (n, {', '.join(map(str, expected))}), got {tuple(x.shape)}"
            )

    def _compute(self, node: Node, inputs: Sequence[Tensor]) -> Tensor:
        return self._operators[node.path](node, inputs)  # type: ignore[no-any-return]

    def operator(self, node: Node) -> ElasticOperator:
        """The module that holds the weights of `node`."""
        return self._operators[node.path]

    @property
    def classifier(self) -> ElasticOperator:
        """The last linear layer or convolution, with one output per class."""
        nodes = self.space.network(self.space.largest).nodes
        return self.operator(next(node for node in reversed(nodes) if node.mixes_channels))

    @torch.no_grad()
    def extract(self, arch: Arch, *, fast: bool = False) -> StaticNet:
        """Copy one subnet into a static network whose outputs equal `self(x, arch)`.

        Args:
            arch: the subnet.
            fast: make the network 1.1 to 1.7 times as fast in eval mode; its outputs may then differ by
                rounding.

        Raises:
            ValueError: the arch is not in the space.
        """
        blocks = self.space.blocks(arch)
        net = StaticNet(blocks, fast=fast, device=torch.device("meta"))  # all weights are loaded below
        state: dict[str, Tensor] = {}
        for node in (node for block in blocks for node in block.nodes if node.parameters):
            weights = self.operator(node).sliced(node)
            state |= {f"{node.path}.{name}": tensor for name, tensor in weights.items()}
            if isinstance(node.op, ops.BatchNorm):
                device = weights["running_mean"].device
                state[f"{node.path}.num_batches_tracked"] = torch.tensor(0, device=device)
        copies = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
        net.load_state_dict(copies, assign=True)
        return net.train(self.training)

    def _zero_residual_branches(self) -> None:
        for slot in self.space.slots:
            branches = [block.branch for block in self.space.slot_blocks(slot)]
            # without a shortcut, zeros would make the output constant; before a ReLU, they block gradients
            if all(branch is not None and isinstance(branch.op, ops.BatchNorm) for branch in branches):
                for branch in branches:
                    assert branch is not None
                    norm = self.operator(branch)
                    assert isinstance(norm, ElasticBatchNorm)
                    nn.init.zeros_(norm.weight)
