"""A tracer that computes the sizes of all tensors, so that the code of a model can use them."""

from __future__ import annotations

import copy
import linecache
import operator
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn

from search_spaces.checked import reason

BATCH = 2
"""Number of images for which shapes are computed."""
COMPOSED = (nn.TransformerEncoder, nn.TransformerEncoderLayer)
"""Modules of torch whose code is traced."""
TORCH = Path(torch.__file__).parent
OWN = Path(__file__).parent


class DoesNotRunError(ValueError):
    """An operator of the model does not accept tensors of this size."""


class SizedProxy(fx.Proxy):
    """A tensor of a graph, or a tuple of tensors, with known sizes."""

    tracer: SizeTracer
    is_nested = False
    is_sparse = False
    is_quantized = False
    requires_grad = False
    is_cuda = False
    device = torch.device("cpu")

    @property
    def value(self) -> Any:
        """The tensor without data, or with data if it depends on parameters only."""
        return self.tracer.values[self.node.name]

    @property
    def shape(self) -> torch.Size:
        """As of a tensor."""
        return torch.Size(self.value.shape)

    @property
    def ndim(self) -> int:
        """As of a tensor."""
        return len(self.shape)

    @property
    def dtype(self) -> torch.dtype:
        """As of a tensor."""
        kind: torch.dtype = self.value.dtype
        return kind

    def size(self, dim: int | None = None) -> torch.Size | int:
        """As of a tensor."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        """As of a tensor."""
        return self.ndim

    def numel(self) -> int:
        """As of a tensor."""
        return self.shape.numel()

    def is_contiguous(self, **_: object) -> bool:
        """As of a tensor."""
        return True

    def __setitem__(self, index: object, value: object) -> None:
        raise TypeError("assignment to parts of a tensor is not supported; create a new tensor")

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        return (operator.getitem(self, i) for i in range(len(self)))


class SizeTracer(fx.Tracer):
    """Computes the sizes of all tensors while it traces.

    Args:
        empty: the model without data, see `without_data`.
        channels: channels of the images.
        resolution: side of the images, in pixels.
        leaves: names of further classes whose code is not traced.
        identities: paths of modules that return their input.
    """

    def __init__(
        self,
        empty: nn.Module,
        channels: int,
        resolution: int,
        leaves: frozenset[str],
        identities: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.failed_in = ""
        """Path of the innermost module in which tracing failed."""
        self.lines: dict[str, str] = {}
        """Source line of each node."""
        self.values: dict[str, Any] = {}
        """Value of each node."""
        self.identities = set(identities)
        """Modules that return their input."""
        self._empty, self._leaves = empty, leaves
        self._images = torch.empty(BATCH, channels, resolution, resolution, device="meta")
        self._computes = False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """See `fx.Tracer`."""
        leaf = super().is_leaf_module(m, module_qualified_name) and not isinstance(m, COMPOSED)
        return leaf or class_name(m) in self._leaves

    def proxy(self, node: fx.Node) -> SizedProxy:
        """See `fx.Tracer`."""
        return SizedProxy(node, self)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """See `fx.Tracer`."""
        node = super().create_node(*args, **kwargs)
        # the output node has no source line
        self.lines[node.name] = "" if node.op == "output" else _line_of_user(sys._getframe(1))
        if node.op == "get_attr":
            self.values[node.name] = self._attribute(str(node.target))
        return node

    def create_proxy(
        self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *rest: Any, **others: Any
    ) -> Any:
        """See `fx.Tracer`; values that are not tensors, such as sizes, are returned unchanged."""
        if kind == "placeholder":
            return self._argument(str(target), args, *rest, **others)
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **others)
        if kind == "get_attr":
            return proxy
        value = self._compute(kind, target, self._values(args), self._values(kwargs))
        if not _has_tensors(value):
            self.graph.erase_node(proxy.node)
            return value
        self.values[proxy.node.name] = value
        return proxy

    def create_arg(self, a: Any) -> Any:
        """See `fx.Tracer`."""
        return a.node if isinstance(a, fx.Proxy) else super().create_arg(a)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """See `fx.Tracer`; values that depend on parameters only are known and can be converted."""
        value = self.values[obj.node.name]
        return super().to_bool(obj) if value.is_meta else bool(value)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """See `fx.Tracer`."""
        return attr_val if self._computes else super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """See `fx.Tracer`."""
        if self._computes:
            return forward(*args, **kwargs)
        path = self.path_of_module(m)
        if path in self.identities:
            return args[0]
        try:
            result = super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed_in = self.failed_in or path
            raise
        if args and result is args[0]:
            self.identities.add(path)
        return result

    def _attribute(self, path: str) -> Any:
        value: Any = self.root
        self._computes = True
        try:
            for name in path.split("."):
                value = getattr(value, name)
        finally:
            self._computes = False
        return value.detach()

    def _argument(self, name: str, args: tuple[Any, ...], *rest: Any, **others: Any) -> Any:
        """The images, or the default of a further argument of the model."""
        if any(node.op == "placeholder" for node in self.graph.nodes):
            if args or name.startswith("*"):
                return args[0] if args else {} if name.startswith("**") else ()
            raise ValueError(
                f"a model must have only one argument without a default, the images, got {name} too"
            )
        proxy = super().create_proxy("placeholder", name.lstrip("*"), (), {}, *rest, **others)
        self.values[proxy.node.name] = self._images
        return proxy

    def _values(self, arguments: Any) -> Any:
        def value(argument: Any) -> Any:
            if isinstance(argument, dict):
                return {name: value(item) for name, item in argument.items()}
            if type(argument) in (tuple, list):
                return type(argument)(map(value, argument))
            return self.values[argument.node.name] if isinstance(argument, fx.Proxy) else argument

        return value(arguments)

    def _compute(self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        constant = not any(map(_is_empty, _tensors((args, kwargs))))
        if kind == "call_module":
            module = (self.root if constant else self._empty).get_submodule(target)
            if isinstance(module, nn.BatchNorm2d) and not constant:
                return args[0]  # the norm of a tensor without data is slow
            run: Callable[..., Any] = module
        elif target is nn.functional.batch_norm and not constant:
            return args[0] if args else kwargs["input"]
        elif kind == "call_method":
            return self._compute("call_function", getattr(Tensor, target), args, kwargs)
        else:
            run = target
        if not constant:
            args, kwargs = _without_data((args, kwargs))
        self._computes = True
        try:
            with torch.no_grad():
                return run(*args, **kwargs)
        except Exception as error:  # whatever the operators of the model raise
            side = self._images.shape[-1]
            raise DoesNotRunError(f"does not run with images of {side} pixels: {reason(error)}") from None
        finally:
            self._computes = False


def without_data(model: nn.Module) -> nn.Module:
    """A copy of a model whose parameters and buffers have no data."""
    replaced: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        replaced[id(tensor)] = nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(model, replaced).eval()


def class_name(module: nn.Module) -> str:
    """Name of the class of a module with its package, such as `torch.nn.modules.conv.Conv2d`."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)


def _is_empty(tensor: Tensor) -> bool:
    return tensor.is_meta


def _has_tensors(value: Any) -> bool:
    return any(True for _ in _tensors(value))


def _without_data(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to("meta")
    if isinstance(value, dict):
        return {name: _without_data(item) for name, item in value.items()}
    return type(value)(map(_without_data, value)) if type(value) in (tuple, list) else value


@cache
def is_of_user(filename: str) -> bool:
    """Whether a file is the user's code, or a library's such as torchvision."""
    path = Path(filename)
    return not filename.startswith("<") and TORCH not in path.parents and path.parent != OWN


def _line_of_user(frame: FrameType | None) -> str:
    """File, line and code of the innermost frame of a trace that is not in torch."""
    while frame is not None:
        filename, number = frame.f_code.co_filename, frame.f_lineno
        if is_of_user(filename):
            return source_line(filename, number)
        frame = frame.f_back
    return ""


def source_line(filename: str, number: int) -> str:
    """Name of a file, number and code of a line."""
    return f"{Path(filename).name}, line {number}: {linecache.getline(filename, number).strip()}"
