"""The profile of a device: its identity, run settings, and the errors of its latency predictions."""

from __future__ import annotations

import logging

from pydantic import BaseModel, computed_field

from hw_profiles.connections.base import Description
from hw_profiles.connections.local import Local
from hw_profiles.connections.registry import AnyConnection
from hw_profiles.latency_models.prediction_error import ErrorRecord, PrecisionErrors
from hw_profiles.latency_models.robust_regression import Affine
from hw_profiles.measuring.results import Conditions
from hw_profiles.run_settings import DeviceKey

_log = logging.getLogger(__name__)

SCHEMA_VERSION = 2
MAX_NOISE_FLOOR = 0.04
"""Above this noise floor the figures of a machine are not meaningful."""
IDENTITY_FIELDS = ("cpu", "machine", "instruction_set")
"""Fields of `Hardware` that distinguish devices."""
IDLE_LOAD = 0.75
"""Maximum load of an otherwise idle machine, in addition to the threads that are measured."""


class Hardware(BaseModel, frozen=True):
    """Identity of the device; None for values that the device or the measuring tool does not report."""

    cpu: str | None = None
    board: str | None = None
    """Name of the board, such as `Raspberry Pi 5 Model B`."""
    cores: int | None = None
    """Number of cores of the machine."""
    usable_cores: int | None = None
    """Number of cores allowed by the affinity and the CPU quota of the measuring process."""
    cpu_quota: float | None = None
    """CPU quota of its control groups, in cores; None without a quota."""
    machine: str | None = None
    """Architecture of the processor, such as `x86_64`."""
    instruction_set: str | None = None
    """`x86-vnni`, `x86`, `arm`, or the machine; it decides how INT8 values are stored."""
    governor: str | None = None
    """The frequency governor of the CPU."""
    os: str | None = None
    python: str | None = None
    numpy: str | None = None


class DeviceProfile(BaseModel, frozen=True):
    """`profile.json`: a measured device. Shares and errors are fractions, not percent."""

    schema_version: int = SCHEMA_VERSION
    name: str
    space: str
    """The space whose blocks were measured."""
    created: str
    """Time of creation: UTC, ISO 8601."""
    seconds: float
    """Time spent measuring, held-out checks included."""
    check_seconds: float
    """The part of `seconds` spent on the held-out subnets."""
    conditions: Conditions
    """State of the device while it was measured."""
    connection: AnyConnection = Local()
    """How the device is reached."""
    key: DeviceKey
    hardware: Hardware
    n_blocks: int
    """Number of distinct blocks in the table; 0 if the device has no table."""
    n_calibration: int
    """Number of whole subnets that the latency model was fitted to."""
    calibration: Affine | None
    """The line from the sum over the blocks of a subnet to its latency alone in a fresh process; None without
    a table."""
    latency_model: str
    """Name of the latency model, one of those in `hw_profiles.latency_models.selection`."""
    cross_validated: dict[str, ErrorRecord]
    """Errors of all latency models that were compared, cross-validated on the calibration subnets."""
    held_out: ErrorRecord
    """Errors of the latency model on subnets that it was not fitted to, the smallest and the largest
    included, against one measurement of each."""
    held_out_macs: ErrorRecord
    """Errors of the baseline, a line fitted to MACs only, on the same subnets."""
    noise_floor: float | None
    """MAPE between two complete passes over the held-out subnets, each model alone in a fresh process; None
    if only one pass was measured."""
    precisions: PrecisionErrors | None = None
    """Errors by the precision of the networks; None for a profile of one precision."""
    split_half_spearman: float | None
    """Rank correlation of the block latencies of even trials with those of odd trials."""
    slow_share: float = 0.0
    """Share of trials in which the processor was slow, see `hw_profiles.measuring.runner.speed_probe`."""
    throttled_share: float = 0.0
    """Share of trials in which a CPU quota stopped the measurement."""
    best_speed_probe_ms: float | None = None
    """The fastest speed probe, with which later measurements detect a slow processor; None if unknown."""
    sentinel_drift: float | None
    """Change of the latency of one network over the whole time / its latency."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def too_noisy(self) -> bool:
        """Whether the noise floor is too high for meaningful figures."""
        return self.noise_floor is not None and self.noise_floor > MAX_NOISE_FLOOR

    @computed_field  # type: ignore[prop-decorator]
    @property
    def busy(self) -> bool:
        """Whether other processes were running on the device."""
        load = self.conditions.load
        return load is not None and load[1] > self.key.threads + IDLE_LOAD

    def differences(self, description: Description) -> dict[str, object]:
        """The values in the description of a device that differ from the identity in this profile."""
        own = self.hardware.model_dump()
        names = [
            name for name in IDENTITY_FIELDS if description.get(name) is not None and own[name] is not None
        ]
        return {name: description[name] for name in names if description[name] != own[name]}

    def check_same_device(self, description: Description) -> None:
        """Reject results measured on a different device; a different version of the runtime is a warning.

        Args:
            description: the description of the measuring device; values that it lacks are not compared.

        Raises:
            ValueError: the hardware differs.
        """
        differences = self.differences(description)
        if differences:
            own = {name: getattr(self.hardware, name) for name in differences}
            raise ValueError(
                f"the connected device is not {self.name!r}: it reports {differences}, not {own}; "
                "the latencies are not valid for that device; profile it under another name, or search with "
                "--unmeasured"
            )
        version = description.get("version", self.key.version)
        if description.get("runtime") == self.key.runtime and version != self.key.version:
            _log.warning(
                "the device %r now has %s %s, but was profiled with %s: predictions may be wrong; profile it "
                "again",
                self.name,
                self.key.runtime,
                version,
                self.key.version,
            )
