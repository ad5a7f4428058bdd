"""Run settings that depend on the device."""

from __future__ import annotations

from hw_profiles.connections.base import Description
from hw_profiles.measuring.results import Results
from hw_profiles.run_settings import RunSettings
from nas.onnx_backend.precision import INT8, MIXED
from nas.onnx_backend.quantize import scheme


def complete(settings: RunSettings, description: Description | None) -> RunSettings:
    """Add the instruction set for which INT8 graphs are written.

    Args:
        settings: the settings that a user chose.
        description: the description of the device; None if it cannot be queried.

    Raises:
        ValueError: the device has an unknown instruction set, or fewer usable cores than `settings.threads`.
    """
    cores = description and description.get("usable_cores")
    if isinstance(cores, int) and settings.threads > cores:
        raise ValueError(
            f"threads must be at most {cores}, the cores that a process on the device may use, "
            f"got {settings.threads}"
        )
    if settings.precision not in (INT8, MIXED):
        return settings
    name = settings.int8_for or (description and description.get("instruction_set"))
    scheme(name if isinstance(name, str) else None)  # validates the name
    return settings.model_copy(update={"int8_for": name})


def check_instruction_set(settings: RunSettings, results: Results) -> None:
    """Check that INT8 results come from a device with the instruction set for which the graphs were written.

    Raises:
        ValueError: the device has another instruction set.
    """
    actual = results.device.get("instruction_set")
    if settings.precision in (INT8, MIXED) and actual not in (None, settings.int8_for):
        raise ValueError(
            f"INT8 graphs were written for {settings.int8_for}, but the device is {actual}: their latency "
            f"is not valid there; measure again with --int8-for {actual}"
        )
