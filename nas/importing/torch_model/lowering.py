"""Translation of the nodes of a traced model to operators."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from nas.importing.torch_model.trace import Traced, is_ignored
from nas.importing.torch_model.tracer import BATCH, class_name
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
    """Indices of the layers that are read, or `IMAGES`."""
    owners: tuple[tuple[str, type[nn.Module]], ...] = field(compare=False)
    """Path and class of the modules that contain the layer, the outermost first."""
    tensors: Mapping[str, Tensor] = field(compare=False)
    """Weights and statistics by their names in the operator, for those whose names in the model do not follow
    from the name of the layer."""
    node: Node = field(compare=False)
    """The operator for the images of one resolution."""

    @property
    def output(self) -> TensorSpec:
        """Spec of the output."""
        return self.node.output

    @property
    def heavy(self) -> bool:
        """Whether the layer is a convolution or a linear layer."""
        return self.op in HEAVY

    @property
    def dense(self) -> bool:
        """Whether each output channel reads all input channels."""
        return self.heavy and "group_size" not in self.fields


@dataclass(frozen=True)
class Weight:
    """A tensor that depends on parameters and buffers only."""

    tensor: Tensor
    name: str = ""
    """Name of the parameter or buffer with the same elements in the same order; empty if there is none."""
    learned: bool = True
    """Whether the tensor is trained by gradients."""

    @property
    def numel(self) -> int:
        """Number of elements."""
        return self.tensor.numel()

    @property
    def module(self) -> str:
        """Path of the module that the parameter or buffer belongs to."""
        return self.name.rpartition(".")[0]


@dataclass(frozen=True)
class Deferred:
    """The result of a call that later becomes a part of an operator."""

    description: str
    """Description of the result for messages."""


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
        value = self.argument(position, name, self.kwargs.get("x"))
        index = self.index(value)
        if index is None:
            raise ValueError(f"argument {position} must be the output of an operator, got {kind_of(value)}")
        return index

    def index(self, value: object) -> Index | None:
        """Index of the layer that computes a value; None if the value is not the output of an operator."""
        if isinstance(value, View):
            value = self.lowering.materialized(self, value)
        return value if isinstance(value, Index) else None

    def run(self, convert: Callable[[Any], Any]) -> Any:
        """Run the module, function or method with other arguments.

        Args:
            convert: returns the replacement of an argument.
        """
        args = [convert(arg) for arg in self.args]
        kwargs = {name: convert(arg) for name, arg in self.kwargs.items()}
        if self.module is not None:
            return self.module(*args, **kwargs)
        target = self.node.target
        function = getattr(Tensor, target) if isinstance(target, str) else target
        return function(*args, **kwargs)

    def spec(self, index: int) -> TensorSpec:
        """Spec of the output of a layer."""
        return self.lowering.spec(index)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output, with the batch."""
        return tuple(self.lowering.traced.values[self.node.name].shape)

    def add(
        self,
        op: str,
        *inputs: int,
        suffix: str = "",
        path: str | None = None,
        weights: Mapping[str, Weight] | None = None,
        **fields: Any,
    ) -> Index:
        """Add a layer; fields that are None are left out.

        Args:
            op: name of the operator.
            *inputs: indices of the layers that it reads.
            suffix: appended to the name, for the second layer of a call.
            path: name of the layer; None: the name of the module, or of the function in its module.
            weights: weights and statistics by their names in the operator, if they differ from those of the
                module.
            **fields: fields of the operator.

        Raises:
            ValueError: a parameter of the model is used twice.
        """
        lowering = self.lowering
        lowering.use(weights or {})
        own = {name: value for name, value in fields.items() if value is not None}
        specs = tuple(map(lowering.spec, inputs))
        operator = template(op, own).operator(*specs)
        name = lowering.unique((path or self.path()) + suffix)
        node = Node(operator, name, "", tuple(map(int, inputs)), specs)
        owners = lowering.traced.owners.get(self.node.name, ())
        tensors = {own_name: weight.tensor for own_name, weight in (weights or {}).items()}
        lowering.layers.append(Layer(name, op, own, node.inputs, owners, tensors, node))
        return Index(len(lowering.layers) - 1)

    def path(self, name: str = "") -> str:
        """Name of a layer: `name` in its module; by default the name of the module or of the function."""
        owners = [path for path, _ in self.lowering.traced.owners.get(self.node.name, ())]
        if self.node.op == "call_module":
            if not name:
                return str(self.node.target)
            owners = [path for path in owners if path != self.node.target]
        elif not name:
            name = self.node.target if isinstance(self.node.target, str) else self.node.target.__name__
        return ".".join([*owners[-1:], name.strip("_")])


class Index(int):
    """Index of a layer, to tell it from a number that a model computes."""


@dataclass(frozen=True)
class View:
    """Elements of the output of a layer in another order or shape."""

    source: int
    indices: Tensor
    """Index of each element in the output of the layer for a batch."""
    previous: Callable[[], View | Index] | None = field(default=None, compare=False)
    """Returns the same elements as a view of the output of a further layer, which computes the previous view;
    None if the previous value was not a view."""


Rule = Callable[[Call], Any]
"""Adds the layers of a call; returns the index of the last one, a `View`, a `Weight` or a `Deferred`."""
Recognizer = Callable[[Call, View], Index | None]
"""Adds the layer that computes a view; None: there is no operator for it."""


class Lowering:
    """The layers of a traced model.

    Args:
        traced: the model.
        rules: rule of each class, name of a class with its package, function and name of a method.
        recognize: finds the operator of a view.
        channels: channels of the images.
        resolution: side of the images, in pixels.

    Raises:
        ValueError: there is no rule for a node, or it does not apply; the message names the module, the
            source line and the construct.
    """

    def __init__(
        self,
        traced: Traced,
        rules: Mapping[object, Rule],
        recognize: Recognizer,
        channels: int,
        resolution: int,
    ) -> None:
        self.traced = traced
        self.layers: list[Layer] = []
        self._images = image(channels, resolution)
        self._values: dict[fx.Node, Any] = {}
        self._names: set[str] = set()
        self._used: set[str] = set()
        self._views: dict[int, tuple[View, Index]] = {}
        """By identity; the view is kept, because a new object may have the identity of a deleted one."""
        self._rules, self._recognize = rules, recognize
        module = traced.module
        self._tensors = {
            (tensor.data_ptr(), tensor.numel()): Weight(tensor, name, isinstance(tensor, nn.Parameter))
            for name, tensor in itertools.chain(module.named_buffers(), module.named_parameters())
        }
        for node in module.graph.nodes:
            try:
                self._values[node] = self._lower(node)
            except ValueError as error:
                raise ValueError(f"cannot convert {traced.place(node)}: {error}") from None

    def value(self, argument: Any) -> Any:
        """The value of an argument of a node: an index of a layer, a constant, or the argument itself."""
        if isinstance(argument, fx.Node):
            return self._values[argument]
        if isinstance(argument, slice):
            return slice(*map(self.value, (argument.start, argument.stop, argument.step)))
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

    def use(self, weights: Mapping[str, Weight]) -> None:
        """Record that a layer has these weights.

        Raises:
            ValueError: another layer has one of them too.
        """
        names = {weight.name for weight in weights.values() if weight.name}
        for name in sorted(names & self._used):
            raise ValueError(f"the parameter {name} is used twice; weights must be used once")
        self._used |= names

    def change(self, index: int, **fields: Any) -> None:
        """Change fields of a layer that do not change its output."""
        layer = self.layers[index]
        own = {**layer.fields, **fields}
        operator = template(layer.op, own).operator(*layer.node.specs)
        self.layers[index] = replace(layer, fields=own, node=replace(layer.node, op=operator))

    def indices(self, index: int) -> Tensor:
        """The index of each element of the output of a layer."""
        shape = (BATCH, *self.spec(index).shape)
        return torch.arange(math.prod(shape)).view(shape)

    def materialized(self, call: Call, view: View) -> Index:
        """Index of the layer that computes a view.

        Raises:
            ValueError: there is no operator for it.
        """
        if id(view) not in self._views:
            found = self._recognize(call, view)
            if found is None and view.previous is not None:
                found = call.index(view.previous())
            if found is None:
                before, after = self.spec(view.source).shape, tuple(view.indices.shape[1:])
                raise ValueError(
                    f"no supported operator moves the elements of its input in this way, {before} > {after}"
                )
            self._views[id(view)] = view, found
        return self._views[id(view)][1]

    def _lower(self, node: fx.Node) -> Any:
        result: Any = self.traced.values.get(node.name)
        if node.op == "placeholder":
            return Index(IMAGES)
        if node.op == "output":
            return self._check_output(node)
        if _is_constant(result):
            return self._constants(result, [self.value(arg) for arg in node.args])
        if is_ignored(node, self.traced.module):
            return self.value(node.args[0])
        module = self.traced.module.get_submodule(str(node.target)) if node.op == "call_module" else None
        key = node.target if module is None else type(module)
        rule = self._rules.get(key) or (module and self._rules.get(class_name(module)))
        if rule is None:
            kind = type(module).__name__ if module else getattr(node.target, "__name__", node.target)
            raise ValueError(f"there is no rule for {kind}" + REMEDIES.get(str(kind), ""))
        if module is not None and str(node.target) in self._names and any(True for _ in module.parameters()):
            raise ValueError(f"the module {node.target} is called twice; its weights must be used once")
        value = rule(Call(self, node, module))
        if isinstance(value, Index):
            expected = (BATCH, *self.spec(value).shape)
            if tuple(result.shape) != expected:
                raise ValueError(
                    f"its output has the shape {tuple(result.shape)}, its operators give {expected}"
                )
        return value

    def _constants(self, value: Any, sources: Sequence[Any]) -> Any:
        if isinstance(value, tuple | list):
            return tuple(self._constants(item, ()) for item in value)
        for source in sources:  # constants that were repeated for each image of the batch
            if isinstance(source, Weight) and value.numel() == BATCH * source.numel:
                copies = value.reshape(BATCH, -1)
                if all(torch.equal(copy, source.tensor.flatten()) for copy in copies):
                    return source
        # drop the dimensions along which the elements repeat
        tensor = value[tuple(slice(1) if step == 0 else slice(None) for step in value.stride())]
        known = self._tensors.get((tensor.data_ptr(), tensor.numel()))
        if known is None or not tensor.is_contiguous() or not tensor.numel():
            return Weight(tensor)
        return replace(known, tensor=tensor)

    def _check_output(self, node: fx.Node) -> object:
        value = Call(self, node, None).args[0]
        index = Call(self, node, None).index(value)
        if index is None:
            raise ValueError(f"a model must return one tensor, got {kind_of(value)}")
        if self.spec(index).layout != "vector":
            raise ValueError(f"a model must return a vector for each image, got {self.spec(index)}")
        if index != len(self.layers) - 1:
            raise ValueError("a model must return the output of its last operator")
        return index


REMEDIES: Mapping[str, str] = dict.fromkeys(
    ("softmax", "log_softmax", "Softmax", "LogSoftmax"),
    "; a model must return logits: leave it out at the end",
)
"""Advice to the user about functions without a rule."""


def _is_constant(value: Any) -> bool:
    """Whether a tensor, or every tensor of a tuple, depends on parameters only."""
    if isinstance(value, tuple | list):
        return bool(value) and all(map(_is_constant, value))
    return isinstance(value, Tensor) and not value.is_meta


def kind_of(value: object) -> str:
    """Description of a value for messages."""
    match value:
        case dict():
            return f"a dictionary of {len(value)}"
        case tuple() | list():
            return f"a {'list' if isinstance(value, list) else 'tuple'} of {len(value)}"
        case Weight():
            return f"the parameter or buffer {value.name}" if value.name else "a constant"
        case Deferred():
            return value.description
        case View():
            return "a part of a tensor"
        case _:
            return repr(value)[:60]


def equal_layers(a: Sequence[Layer], b: Sequence[Layer]) -> bool:
    """Whether two networks have equal operators and weights, apart from the sizes of images."""
    return list(a) == list(b) and all(
        torch.equal(tensor, y.tensors[name])
        for x, y in zip(a, b, strict=True)
        for name, tensor in x.tensors.items()
    )
