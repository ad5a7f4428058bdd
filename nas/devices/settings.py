"""How networks are run on a device, as far as only the device can say."""

from __future__ import annotations

from hw_profiles.connections.base import Description
from hw_profiles.measuring.results import Results
from hw_profiles.run_settings import RunSettings
from nas.onnx_backend.precision import INT8
from nas.onnx_backend.quantize import scheme


def complete(settings: RunSettings, told: Description | None) -> RunSettings:
    """The settings with the instruction set that INT8 graphs are written for.

    Args:
        settings: what a user chose.
        told: what the device says about itself; None where nobody can ask.

    Raises:
        ValueError: the device has an unknown instruction set, or fewer cores than threads are asked for.
    """
    cores = told and told.get("usable_cores")
    if isinstance(cores, int) and settings.threads > cores:
        raise ValueError(
            f"threads must be at most {cores}, the cores that a process on the device may use, "
            f"got {settings.threads}"
        )
    if settings.precision != INT8:
        return settings
    wanted = settings.int8_for or (told and told.get("instruction_set"))
    scheme(wanted if isinstance(wanted, str) else None)  # refuses an unknown one
    return settings.model_copy(update={"int8_for": wanted})


def refuse_other_instruction_set(settings: RunSettings, results: Results) -> None:
    """Refuse INT8 results of a device that the graphs were not written for.

    Raises:
        ValueError: it says that it has another instruction set.
    """
    told = results.device.get("instruction_set")
    if settings.precision == INT8 and told not in (None, settings.int8_for):
        raise ValueError(
            f"INT8 graphs were written for {settings.int8_for}, but the device is {told}: their latency "
            f"there means nothing; measure again with --int8-for {told}"
        )
