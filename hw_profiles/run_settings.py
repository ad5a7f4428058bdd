"""Run settings that identify a latency measurement, apart from the hardware."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from hw_profiles.measuring.runner.providers import CPU
from search_spaces.tensors import Precision

ProfilePrecision = Precision | Literal["mixed"]
"""Precision of all blocks, or `mixed`: each block has its own."""


class RunSettings(BaseModel, frozen=True):
    """How networks are run on a device: the settings that a user chooses."""

    provider: str = CPU
    """ONNX Runtime's execution provider."""
    threads: int = 1
    """Number of threads of one operator."""
    precision: ProfilePrecision = "fp32"
    int8_for: str | None = None
    """Instruction set that INT8 graphs are written for, see
    `hw_profiles.measuring.runner.device_description.instruction_set`; None without INT8, and until the
    device was queried."""
    fallback: bool = False
    """Let the CPU run the nodes that another provider does not support."""
    batch: int = 1
    """Number of images in a batch."""


class DeviceKey(RunSettings, frozen=True):
    """All settings that a latency depends on, apart from the hardware. Only equal keys are comparable."""

    runtime: str
    version: str
    """Version of the runtime."""
