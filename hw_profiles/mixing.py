"""The precisions that execution providers can mix in one network.

A mixed network has INT8 blocks and floating-point blocks. The precision of its floating-point blocks and the
storage of INT8 values depend on the provider:

- CPUExecutionProvider has integer kernels on x86 and on ARM, and computes floating point in fp32. fp16 is
  converted to fp32 for each node on x86, and is used on ARM only by sessions with `enable_cpu_fp16`. There
  are no convolutions for 4-bit and 16-bit integers.
- CUDA and TensorRT would mix fp16 and INT8 with symmetric activations (zero point 0). CUDAExecutionProvider
  has no integer convolution: it computes convolutions between QuantizeLinear and DequantizeLinear nodes in
  floating point. TensorRT has them; it has not been run with this toolkit, so it is refused.
- OpenVINO, QNN, XNNPACK, CoreML and DirectML have not been run with mixed networks either.
"""

from __future__ import annotations

from hw_profiles.measuring.runner.providers import CPU
from search_spaces.tensors import FP32, INT8, MIXED, Precision

MIXTURES: dict[str, tuple[Precision, ...]] = {CPU: (FP32, INT8)}
"""The precisions in a mixed network, by provider."""
_REASONS = {
    "CUDAExecutionProvider": "it has no integer convolutions",
    "TensorrtExecutionProvider": "fp16 with INT8 was not run there",
    "NvTensorRTRTXExecutionProvider": "fp16 with INT8 was not run there",
}
"""Reasons why other providers are refused; providers without an entry were not run with mixed networks."""


def check_mixture(provider: str) -> None:
    """Check that a provider runs networks of mixed precision.

    Raises:
        ValueError: the provider does not.
    """
    if provider not in MIXTURES:
        reason = _REASONS.get(provider, "mixed networks were not run there")
        raise ValueError(
            f"precision {MIXED} needs a provider that computes in fp32 and INT8 in one network, one of "
            f"{sorted(MIXTURES)}, got {provider}: {reason}; profile the device in one precision"
        )


def block_precisions(precision: str) -> tuple[Precision, ...]:
    """The precisions of the rows of a table; blocks of a uniform profile are described in fp32."""
    return (FP32, INT8) if precision == MIXED else (FP32,)
