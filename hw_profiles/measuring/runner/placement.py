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
        provider: must have run all nodes.
        precision: that convolutions and matrix products must have computed in.
        fallback: it is enough if the provider ran one node.

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
            f"({', '.join(names)}); allow it with --fallback if the model is deployed so"
        )
    if precision not in TENSOR_TYPES:
        return
    heavy = [node for node in nodes if any(kind in node["op_name"] for kind in ("Conv", "Gemm", "MatMul"))]
    types = [next(iter(node["input_type_shape"][0])) for node in heavy]
    wrong = [name for name in types if name not in TENSOR_TYPES[precision]]
    if wrong:
        raise RunnerError(
            f"{provider} does not run {precision}: {len(wrong)} of {len(heavy)} convolutions and "
            f"matrix products computed in {wrong[0]}"
        )
