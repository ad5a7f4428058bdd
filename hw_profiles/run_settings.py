"""What a latency depends on beside the hardware."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

Precision = Literal["fp32", "fp16", "int8"]


class RunSettings(BaseModel, frozen=True):
    """How networks are run on a device: what a user chooses."""

    provider: str = "CPUExecutionProvider"
    """ONNX Runtime's execution provider."""
    threads: int = 1
    """Of one operator."""
    precision: Precision = "fp32"
    int8_for: str | None = None
    """Instruction set (see `runner.instruction_set`) that INT8 graphs are written for; None in
    other precisions, and before the device was asked."""
    fallback: bool = False
    """Let the CPU run the nodes that another provider does not take."""
    batch: int = 1
    """Images at a time."""


class DeviceKey(RunSettings, frozen=True):
    """Everything that a latency depends on beside the hardware; tables of other keys are not comparable."""

    runtime: str
    version: str
    """Of the runtime."""
