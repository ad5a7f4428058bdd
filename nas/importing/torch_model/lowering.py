"""Translation of the nodes of a traced model to operators."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from nas.importing.torch_model.trace import BATCH, Shape, Traced, is_ignored
from search_spaces import Node
from search_spaces.families.traced_operators import template
from search_spaces.tensors import TensorSpec, image

IMAGES = -1
"""Index of the images among the layers of a network."""
HEAVY = ("conv2d", "linear")
"""Operators with products of weights and inputs."""


@dataclass(frozen=True)
class Layer:
    """An operator of a network."""

    path: str
    """Name in the network; for an operator with weights, its module."""
    op: str
    """As in `search_spaces.families.traced_operators.OPERATORS`."""
    fields: Mapping[str, Any]
    """Fields of the operator that differ from their defaults."""
    inputs: tuple[int, ...]
    """Indices of the layers that it reads, or `IMAGES`."""
    owners: tuple[tuple[str, type[nn.Module]], ...] = field(compare=False)
    """Path and class of the modules that it is in, the outermost first."""
    tensors: Mapping[str, str] = field(compare=False)
    """Name in the model of each weight and statistic, by its name in the operator, where they differ."""
    node: Node = field(compare=False)
    """The operator for the images of one resolution."""

    @property
    def output(self) -> TensorSpec:
        """Spec of the output."""
        return self.node.output

    @property
    def heavy(self) -> bool:
        """Whether it multiplies weights and inputs."""
        return self.op in HEAVY

    @property
    def dense(self) -> bool:
        """Whether all its outputs read all its inputs."""
        return self.heavy and "group_size" not in self.fields


@dataclass(frozen=True)
class Split:
    """A tensor of which only parts or another view are used, until an operator is recognized."""

    source: int
    parts: tuple[tuple[int, int], ...] = ()
    """Ranges of channels."""
    groups: int = 0
    """Number of groups of channels that a view separates."""
    transposed: bool = False
    rows: bool = False
    """Whether a view has the pixels of a feature map in one dimension."""


@dataclass(frozen=True)
class Weight:
    """A parameter of the model as a tensor of its graph."""

    name: str
    numel: int
    """Number of elements."""


class Call:
    """The call of a module, a function or a method in a graph, and the layers so far."""

    def __init__(self, lowering: Lowering, node: fx.Node, module: nn.Module | None) -> None:
        self.lowering, self.node, self.module = lowering, node, module
        self.args = [lowering.value(arg) for arg in node.args]
        self.kwargs = {name: lowering.value(arg) for name, arg in node.kwargs.items()}

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by its position or name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    def tensor(self, position: int = 0, name: str = "input") -> int:
        """Index of the layer that computes an argument.

        Raises:
            ValueError: the argument is not the output of an operator.
        """
        index = self.argument(position, name, self.kwargs.get("x"))
        if not isinstance(index, Index):
            raise ValueError(f"argument {position} must be the output of an operator, got {_kind(index)}")
        return index

    def spec(self, index: int) -> TensorSpec:
        """Spec of the output of a layer."""
        return self.lowering.spec(index)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output, with the batch."""
        return tuple(self.lowering.shapes[self.node.name])

    def add(
        self,
        op: str,
        *inputs: int,
        suffix: str = "",
        path: str | None = None,
        tensors: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Index:
        """Add a layer; fields that are None are left out.

        Args:
            op: name of the operator.
            *inputs: indices of the layers that it reads.
            suffix: appended to the name, for the second layer of a call.
            path: name of the layer; None: that of the module, or of the function in its module.
            tensors: as in `Layer`.
            **fields: fields of the operator.
        """
        lowering = self.lowering
        own = {name: value for name, value in fields.items() if value is not None}
        specs = tuple(map(lowering.spec, inputs))
        operator = template(op, own).operator(*specs)
        name = lowering.unique((path or self.path()) + suffix)
        node = Node(operator, name, "", tuple(map(int, inputs)), specs)
        owners = lowering.traced.owners.get(self.node.name, ())
        lowering.layers.append(Layer(name, op, own, node.inputs, owners, tensors or {}, node))
        return Index(len(lowering.layers) - 1)

    def path(self, name: str = "") -> str:
        """Name of a layer: that of the module, or `name` or else that of the function in its module."""
        if self.node.op == "call_module":
            return str(self.node.target)
        owners = self.lowering.traced.owners.get(self.node.name, ())
        if not name:
            name = self.node.target if isinstance(self.node.target, str) else self.node.target.__name__
        return ".".join([*(path for path, _ in owners[-1:]), name.strip("_")])


class Index(int):
    """Index of a layer, to tell it from a number that a model computes."""


Rule = Callable[[Call], Any]
"""Adds the layers of a call; returns the index of the last one, or a `Split`."""


class Lowering:
    """The layers of a traced model.

    Args:
        traced: the model.
        shapes: as returned by `nas.importing.torch_model.trace.run_with_shapes`.
        rules: rule of each class, function and name of a method.
        channels: channels of the images.
        resolution: side of the images, in pixels.

    Raises:
        ValueError: there is no rule for a node, or it does not apply; the message names the module, the
            source line and the construct.
    """

    def __init__(
        self,
        traced: Traced,
        shapes: Mapping[str, Any],
        rules: Mapping[object, Rule],
        channels: int,
        resolution: int,
    ) -> None:
        self.traced, self.shapes = traced, shapes
        self.layers: list[Layer] = []
        self._images = image(channels, resolution)
        self._values: dict[fx.Node, Any] = {}
        self._names: set[str] = set()
        self._rules = rules
        for node in traced.module.graph.nodes:
            try:
                self._values[node] = self._lower(node)
            except ValueError as error:
                raise ValueError(f"cannot convert {traced.place(node)}: {error}") from None

    def value(self, argument: Any) -> Any:
        """An argument of a node: indices of layers, numbers that were computed, or itself."""
        if isinstance(argument, fx.Node):
            return self._values[argument]
        if isinstance(argument, tuple | list):
            return type(argument)([self.value(item) for item in argument])
        return argument

    def spec(self, index: int) -> TensorSpec:
        """Spec of the output of a layer."""
        return self._images if index == IMAGES else self.layers[index].output

    def unique(self, name: str) -> str:
        """A name that no other layer has."""
        candidate, n = name, 0
        while candidate in self._names:
            n += 1
            candidate = f"{name}_{n}"
        self._names.add(candidate)
        return candidate

    def _lower(self, node: fx.Node) -> Any:
        result = self.shapes.get(node.name)
        if node.op == "placeholder":
            if any(isinstance(value, Index) for value in self._values.values()):
                raise ValueError("a model must have one argument, the images")
            return Index(IMAGES)
        if node.op == "output":
            return self._check_output(self.value(node.args[0]))
        if node.op == "get_attr":
            return Weight(str(node.target), math.prod(result if isinstance(result, Shape) else ()))
        if is_ignored(node, self.traced.module):
            return self.value(node.args[0])
        if not isinstance(result, Shape) and not _has_tensors(result):
            return result  # a size that the model reads, which is constant for each resolution
        module = self.traced.module.get_submodule(str(node.target)) if node.op == "call_module" else None
        rule = self._rules.get(node.target if module is None else type(module))
        if rule is None:
            kind = type(module).__name__ if module else getattr(node.target, "__name__", node.target)
            raise ValueError(f"there is no rule for {kind}")
        if module is not None and str(node.target) in self._names and any(True for _ in module.parameters()):
            raise ValueError(f"the module {node.target} is called twice; its weights must be used once")
        value = rule(Call(self, node, module))
        if isinstance(value, Index):
            expected = (BATCH, *self.spec(value).shape)
            if result != expected:
                raise ValueError(f"its output has the shape {result}, its operators give {expected}")
        return value

    def _check_output(self, value: object) -> object:
        if not isinstance(value, Index):
            raise ValueError(f"a model must return one tensor, got {_kind(value)}")
        if self.spec(value).layout != "vector":
            raise ValueError(f"a model must return a vector for each image, got {self.spec(value)}")
        return value


def _has_tensors(value: object) -> bool:
    """Whether the result of a node is a tuple of tensors."""
    return isinstance(value, tuple | list) and any(isinstance(item, Shape) for item in value)


def _kind(value: object) -> str:
    if isinstance(value, tuple | list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, Weight):
        return f"the parameter or buffer {value.name}"
    return "a part of a tensor" if isinstance(value, Split) else repr(value)[:60]


def equal_layers(a: Sequence[Layer], b: Sequence[Layer]) -> bool:
    """Whether two networks have equal operators, apart from the sizes of images."""
    return list(a) == list(b)
