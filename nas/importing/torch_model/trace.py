"""Tracing of torch models."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, fx, nn
from torchvision.ops import stochastic_depth

from nas.importing.torch_model.tracer import (
    DoesNotRunError,
    SizeTracer,
    is_of_user,
    source_line,
    without_data,
)
from search_spaces.checked import reason

IGNORED_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(
    {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout}
    | {stochastic_depth}
)
"""Functions that do nothing in eval mode."""
IGNORED_MODULES = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Identity)
"""Modules that do nothing in eval mode."""
OF_TRAINING: dict[object, tuple[int, ...]] = {
    F.batch_norm: (5, 6),
    F.scaled_dot_product_attention: (4,),
}
"""Positions of the arguments of functions that differ in training mode."""
NAMES_OF_TRAINING = ("training", "momentum", "dropout_p")
"""Names of such arguments."""
LEAVES = frozenset({"timm.layers.conv2d_same.Conv2dSame"})
"""Names of classes of other packages whose code is not traced."""


@dataclass(frozen=True)
class Traced:
    """A model as a graph."""

    module: fx.GraphModule
    values: dict[str, Any]
    """For each node a tensor or a tuple of tensors, which have data if they depend on parameters only."""
    owners: dict[str, tuple[tuple[str, type[nn.Module]], ...]]
    """For each node, path and class of its modules from the outermost to the innermost, without the model."""
    lines: dict[str, str]
    """Source line of each node."""

    def place(self, node: fx.Node) -> str:
        """The module and the source line of a node, for messages."""
        owners = self.owners.get(node.name, ())
        return _place(owners[-1][0] if owners else "", self.lines.get(node.name, ""))


class Tracing:
    """Traces a model for images of several sizes.

    Args:
        model: the model; it is in eval mode afterwards.
        channels: channels of the images.
    """

    def __init__(self, model: nn.Module, channels: int) -> None:
        self._model, self._channels = model.eval(), channels
        self._empty = without_data(model)
        self._identities: frozenset[str] = frozenset()

    def trace(self, resolution: int) -> Traced:
        """The graph in eval mode.

        Args:
            resolution: side of the images, in pixels.

        Raises:
            ValueError: the model cannot be traced, or does not run with images of this size; the message
                names the module, the source line and the construct.
        """
        module, tracer = self._traced(resolution)
        self._identities = frozenset(tracer.identities)
        owners = {}
        for node in module.graph.nodes:
            stack = node.meta.get("nn_module_stack") or {}
            owners[node.name] = tuple((str(path), kind) for path, kind in stack.values() if path)
        return Traced(module, tracer.values, owners, tracer.lines)

    def training_only(self, traced: Traced, resolution: int) -> tuple[str, ...]:
        """Modules that the model uses in training mode only, such as auxiliary heads.

        Args:
            traced: as returned by `trace`.
            resolution: as in `trace`.

        Raises:
            ValueError: in training mode the model computes something else, apart from dropout.
        """
        self._model.train()
        try:
            training, _ = self._traced(resolution, self._identities)
        finally:
            self._model.eval()
        _check_agreement(traced, training)
        return _training_only(traced.module.graph, training.graph)

    def _traced(
        self, resolution: int, identities: frozenset[str] = frozenset()
    ) -> tuple[fx.GraphModule, SizeTracer]:
        tracer = SizeTracer(self._empty, self._channels, resolution, LEAVES, identities)
        try:
            graph = tracer.trace(self._model)
        except Exception as error:  # whatever the forward functions of the model raise
            frames = [f for f in traceback.extract_tb(error.__traceback__) if is_of_user(f.filename)]
            line = source_line(frames[-1].filename, frames[-1].lineno or 0) if frames else ""
            place = _place(tracer.failed_in, line)
            if isinstance(error, DoesNotRunError):
                raise ValueError(f"{place} {error}") from None
            raise ValueError(f"cannot trace {place}: {reason(error)}") from None
        module = fx.GraphModule(self._model, graph)
        module.graph.eliminate_dead_code()
        return module, tracer


def _place(module: str, line: str) -> str:
    return f"{module or 'the model'}" + f" ({line})" * bool(line)


def _digests(module: fx.GraphModule) -> dict[fx.Node, int]:
    """For each node, a hash of everything that it computes in eval mode."""
    digests: dict[fx.Node, int] = {}

    def plain(value: object) -> object:
        if isinstance(value, fx.Node):
            return digests[value]
        if isinstance(value, tuple | list):
            return tuple(map(plain, value))
        if isinstance(value, dict):
            return tuple((key, plain(item)) for key, item in value.items())
        return repr(value)

    for node in module.graph.nodes:
        if is_ignored(node, module):
            digests[node] = digests[node.args[0]]
            continue
        if node.op == "get_attr" and isinstance(constant := _constant(module, str(node.target)), Tensor):
            digests[node] = hash((node.op, constant.shape, constant.sum().item()))
            continue
        skipped = OF_TRAINING.get(node.target, ())
        args = [arg for i, arg in enumerate(node.args) if i not in skipped]
        kwargs = {key: value for key, value in node.kwargs.items() if key not in NAMES_OF_TRAINING}
        digests[node] = hash((node.op, str(node.target), plain(args), plain(kwargs)))
    return digests


def _constant(module: fx.GraphModule, path: str) -> object:
    """A tensor that the code of the model made; None for parameters and buffers."""
    return getattr(module, path, None) if path.startswith("_tensor_constant") else None


def is_ignored(node: fx.Node, module: nn.Module) -> bool:
    """Whether a node does nothing in eval mode."""
    if node.op == "call_function":
        return node.target in IGNORED_FUNCTIONS
    return node.op == "call_module" and isinstance(module.get_submodule(str(node.target)), IGNORED_MODULES)


def _training_only(graph: fx.Graph, training: fx.Graph) -> tuple[str, ...]:
    used = [{str(n.target) for n in g.nodes if n.op == "call_module"} for g in (graph, training)]
    return tuple(sorted({name.split(".")[0] for name in used[1] - used[0]} - {"dropout"}))


def _check_agreement(traced: Traced, training: fx.GraphModule) -> None:
    """Check that the graph of training mode computes the same as the graph of eval mode."""
    own = _digests(traced.module)
    others = set(_digests(training).values())
    for node, digest in own.items():
        if node.op != "output" and digest not in others:
            place = traced.place(node)
            raise ValueError(
                f"{place} must compute the same in training and in eval mode, except for dropout"
            )
