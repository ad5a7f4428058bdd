"""The device and the precision of a computation without gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch

CPU = torch.device("cpu")
FP32 = "32-true"
DTYPES: Mapping[str, torch.dtype] = {
    FP32: torch.float32,
    "bf16-mixed": torch.bfloat16,
    "16-mixed": torch.float16,
}
"""Type of convolutions and matrix products by the name of the precision, as in training."""
ACCELERATORS = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True, slots=True)
class Computation:
    """Where and how networks are computed."""

    device: torch.device = CPU
    dtype: torch.dtype = torch.float32
    """Type of convolutions and matrix products."""

    @classmethod
    def of(cls, accelerator: str, precision: str, worker: int = 0) -> Computation:
        """The computation for names as in a recipe.

        Args:
            accelerator: one of `ACCELERATORS`; `auto` is a GPU if there is one.
            precision: a key of `DTYPES`.
            worker: index of the process; several processes share the GPUs evenly.

        Raises:
            ValueError: a name is unknown, or this machine does not support it.
        """
        check_names(accelerator, precision)
        device = _find_device(accelerator, worker)
        if precision == "16-mixed" and device.type == "cpu":
            raise ValueError("precision 16-mixed needs a GPU, got cpu; use precision bf16-mixed or 32-true")
        return cls(device, DTYPES[precision])

    def autocast(self) -> AbstractContextManager[None]:
        """Context for the operations; to be entered in each thread that computes."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)


ON_CPU = Computation()


def check_names(accelerator: str, precision: str) -> None:
    """Check the names of an accelerator and a precision.

    Raises:
        ValueError: a name is unknown.
    """
    if accelerator not in ACCELERATORS:
        raise ValueError(f"accelerator must be one of {', '.join(ACCELERATORS)}, got {accelerator!r}")
    if precision not in DTYPES:
        raise ValueError(f"precision must be one of {', '.join(DTYPES)}, got {precision!r}")


def _find_device(accelerator: str, worker: int) -> torch.device:
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if accelerator == "auto":
        accelerator = next(name for name, usable in available.items() if usable)
    if not available[accelerator]:
        raise ValueError(f"torch finds no device for accelerator {accelerator}; use accelerator cpu")
    if accelerator == "cuda":
        return torch.device("cuda", worker % torch.cuda.device_count())
    return torch.device(accelerator)


@contextmanager
def full_float32() -> Iterator[None]:
    """Context without TF32, so that float32 has full precision; TF32 rounds factors to 10 bits on GPUs."""
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, products
