"""Checks in which provider and precision the nodes of a model ran."""

from __future__ import annotations

from typing import Any

from hw_profiles.measuring.runner.errors import RunnerError

# Types of the input of a convolution in an ONNX Runtime profile, by precision.
TENSOR_TYPES = {"fp16": ("float16",), "int8": ("int8", "uint8")}


def check_node_placement(
    nodes: list[dict[str, Any]], provider: str, precision: str, fallback: bool = False
) -> None:
    """Check that a model ran on the requested provider and in the requested precision.

    Args:
        nodes: `args` of the nodes in an ONNX Runtime profile.
        provider: the provider that must have run all nodes.
        precision: the precision that convolutions and matrix products must have computed in, except for those
            of attention in INT8 models.
        fallback: accept that the provider ran only some of the nodes.

    Raises:
        RunnerError: the provider ran no node, or not all of them without `fallback`, or the precision
            differs.
    """
    elsewhere = [node["op_name"] for node in nodes if node["provider"] != provider]
    copies = [name for name in elsewhere if name.startswith("Memcpy")]
    if len(elsewhere) == len(nodes):
        raise RunnerError(f"{provider} ran no node of the model: onnxruntime fell back silently")
    if len(elsewhere) > len(copies) and not fallback:
        names = sorted(set(elsewhere) - set(copies))
        raise RunnerError(
            f"{provider} left {len(elsewhere) - len(copies)} of {len(nodes)} nodes to the CPU "
            f"({', '.join(names)}); add --fallback if the deployed model runs them on the CPU too"
        )
    if precision not in TENSOR_TYPES:
        return
    heavy = _heavy(nodes)
    wrong = [node for node in heavy if not _computed_in(precision, node)]
    if wrong:
        raise RunnerError(
            f"{provider} does not compute in {precision}: {len(wrong)} of {len(heavy)} convolutions and "
            f"matrix products computed in {next(iter(wrong[0]['input_type_shape'][0]))}"
        )


def check_layers(nodes: list[dict[str, Any]], layers: list[dict[str, Any]], whole: bool) -> None:
    """Check that each convolution and matrix product ran in its own precision.

    Args:
        nodes: `args` of the nodes in an ONNX Runtime profile, with the `name` of the event. ONNX Runtime adds
            beginnings and endings to the names of nodes that it replaces.
        layers: for each layer the possible `names` of the node that computes it, and whether it must compute
            with `integers`.
        whole: whether the profile must have all layers; some providers fuse them.

    Raises:
        RunnerError: a layer ran in another precision, or is missing in a `whole` profile.
    """
    owners = {name: layer for layer in layers for name in layer["names"]}
    found = set()
    for node in _heavy(nodes):
        name = max((name for name in owners if _is_of(node["name"], name)), key=len, default=None)
        if name is None:
            continue
        layer = owners[name]["names"][0]
        found.add(layer)
        asked, ran = owners[name]["integers"], _computes_with_integers(node)
        if asked != ran:
            kinds = {True: "integers", False: "floating-point numbers"}
            raise RunnerError(f"{layer} must compute with {kinds[asked]}, onnxruntime used {kinds[ran]}")
    missing = [layer["names"][0] for layer in layers if layer["names"][0] not in found]
    if missing and whole:
        raise RunnerError(f"onnxruntime's profile does not show the precision of {', '.join(missing)}")


def _computes_with_integers(node: dict[str, Any]) -> bool:
    first = next(iter(node["input_type_shape"][0]))
    return first in TENSOR_TYPES["int8"] or node["op_name"] == "DynamicQuantizeMatMul"


def _is_of(event: str, node: str) -> bool:
    """Whether an event is of a node of the model, or of the node that replaced it."""
    event = event.removeprefix("fused ")
    return event.startswith(node) and not event[len(node) : len(node) + 1].isalnum()


def _heavy(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The convolutions and matrix products."""
    return [node for node in nodes if any(kind in node["op_name"] for kind in ("Conv", "Gemm", "MatMul"))]


def _computed_in(precision: str, node: dict[str, Any]) -> bool:
    """Whether a convolution or matrix product was computed in a precision, or is exempt from the check."""
    inputs: list[dict[str, list[int]]] = node["input_type_shape"]
    ((kind, shape),) = inputs[0].items()
    if kind in TENSOR_TYPES[precision]:
        return True
    # INT8 models quantize tokens inside a product, and products of attention, whose inputs have the shape
    # (images, heads, tokens, channels), stay in float
    name = node["op_name"]
    return precision == "int8" and (name == "DynamicQuantizeMatMul" or ("MatMul" in name and len(shape) == 4))
