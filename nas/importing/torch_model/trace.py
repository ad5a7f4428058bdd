"""Tracing of torch models."""

from __future__ import annotations

import copy
import linecache
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torchvision.ops import stochastic_depth

from search_spaces.checked import reason

IGNORED_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(
    {F.dropout, F.dropout2d, F.alpha_dropout, F.feature_alpha_dropout, stochastic_depth}
)
"""Functions that do nothing in eval mode."""
IGNORED_MODULES = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Identity)
"""Modules that do nothing in eval mode."""
TORCH = Path(torch.__file__).parent


@dataclass(frozen=True)
class Traced:
    """A model as a graph."""

    module: fx.GraphModule
    owners: dict[str, tuple[tuple[str, type[nn.Module]], ...]]
    """For each node, path and class of the modules that it is in, the outermost first, without the model."""
    lines: dict[str, str]
    """Source line of each node."""
    training_only: tuple[str, ...]
    """Modules that the model uses in training mode only, such as auxiliary heads."""

    def place(self, node: fx.Node) -> str:
        """The module and the source line of a node, for messages."""
        owners = self.owners.get(node.name, ())
        return _place(owners[-1][0] if owners else "", self.lines.get(node.name, ""))


def trace(model: nn.Module) -> Traced:
    """Trace a model in eval mode, and check that it computes the same in training mode but for dropout.

    Raises:
        ValueError: the model cannot be traced, or both graphs differ; the message names the module, the
            source line and the construct.
    """
    training, _ = _traced(model.train())
    module, lines = _traced(model.eval())
    graph = module.graph
    owners = {}
    for node in graph.nodes:
        stack = node.meta.get("nn_module_stack") or {}
        owners[node.name] = tuple((str(path), kind) for path, kind in stack.values() if path)
    traced = Traced(module, owners, lines, _training_only(graph, training.graph))
    _check_agreement(traced, training)
    return traced


def run_with_shapes(traced: Traced, channels: int, resolution: int) -> dict[str, Any]:
    """The shape of each tensor of a model, and the value of each other node, by the name of the node.

    Args:
        traced: the model.
        channels: channels of the images.
        resolution: side of the images, in pixels.

    Raises:
        ValueError: the model does not run with images of this size, or mixes images of a batch.
    """
    replaced: dict[int, Any] = {}
    for tensor in (*traced.module.parameters(), *traced.module.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        replaced[id(tensor)] = nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty
    recorder = _Recorder(copy.deepcopy(traced.module, replaced))
    try:
        with torch.no_grad():
            recorder.run(torch.empty(BATCH, channels, resolution, resolution, device="meta"))
    except Exception as error:  # whatever the operators of the model raise
        raise ValueError(
            f"the model does not run with images of {resolution} pixels: {reason(error)}"
        ) from None
    return recorder.values


BATCH = 2
"""Number of images for which shapes are computed."""


class _Recorder(fx.Interpreter):
    """Runs a graph and records shapes and values."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        self.values[n.name] = _shapes(result)
        return result

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # the norm of a tensor without data is slow
        if isinstance(self.fetch_attr(str(target)), nn.BatchNorm2d):
            return args[0]
        return super().call_module(target, args, kwargs)


class Shape(tuple[int, ...]):
    """Shape of a tensor, to tell it from a value that is a tuple of integers."""

    __slots__ = ()


def _shapes(result: Any) -> Any:
    """The shape of a tensor, or those of several; other values as they are."""
    if isinstance(result, Tensor):
        return Shape(result.shape)
    if type(result) in (tuple, list):
        return type(result)(map(_shapes, result))
    return result


class _Tracer(fx.Tracer):
    """Records source lines, and the module in which tracing fails."""

    def __init__(self) -> None:
        super().__init__()
        self.failed_in = ""
        self.lines: dict[str, str] = {}
        """Source line of each node."""

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        self.lines[node.name] = _line_of_user(sys._getframe(1))
        return node

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed_in = self.failed_in or self.path_of_module(m)
            raise


def _traced(model: nn.Module) -> tuple[fx.GraphModule, dict[str, str]]:
    """The graph of a model, and the source line of each node."""
    tracer = _Tracer()
    try:
        graph = tracer.trace(model)
    except Exception as error:  # whatever the forward functions of the model raise
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_of_user(frame.filename)]
        line = (
            f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}: {frames[-1].line}" if frames else ""
        )
        raise ValueError(f"cannot trace {_place(tracer.failed_in, line)}: {reason(error)}") from None
    module = fx.GraphModule(model, graph)
    module.graph.eliminate_dead_code()
    return module, tracer.lines


def _place(module: str, line: str) -> str:
    return f"{module or 'the model'}" + f" ({line})" * bool(line)


@cache
def _is_of_user(filename: str) -> bool:
    return TORCH not in Path(filename).parents and Path(filename).resolve() != Path(__file__).resolve()


def _line_of_user(frame: FrameType | None) -> str:
    """File, line and code of the innermost frame of a trace that is not in torch."""
    while frame is not None and frame.f_code is not _traced.__code__:
        filename, number = frame.f_code.co_filename, frame.f_lineno
        if _is_of_user(filename):
            return f"{Path(filename).name}, line {number}: {linecache.getline(filename, number).strip()}"
        frame = frame.f_back
    return ""


def _digests(module: fx.GraphModule) -> dict[fx.Node, int]:
    """For each node, a number that depends on all that it computes in eval mode."""
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
        kwargs = {key: value for key, value in node.kwargs.items() if key != "training"}
        digests[node] = hash((node.op, str(node.target), plain(node.args), plain(kwargs)))
    return digests


def is_ignored(node: fx.Node, module: nn.Module) -> bool:
    """Whether a node does nothing in eval mode."""
    if node.op == "call_function":
        return node.target in IGNORED_FUNCTIONS
    return node.op == "call_module" and isinstance(module.get_submodule(str(node.target)), IGNORED_MODULES)


def _training_only(graph: fx.Graph, training: fx.Graph) -> tuple[str, ...]:
    used = [{str(n.target) for n in g.nodes if n.op == "call_module"} for g in (graph, training)]
    return tuple(sorted({name.split(".")[0] for name in used[1] - used[0]} - {"dropout"}))


def _check_agreement(traced: Traced, training: fx.GraphModule) -> None:
    """Check that the graph of training mode computes what that of eval mode does."""
    own = _digests(traced.module)
    others = set(_digests(training).values())
    for node, digest in own.items():
        if node.op != "output" and digest not in others:
            place = traced.place(node)
            raise ValueError(f"{place} must compute the same in training mode, but for dropout")
