"""What is known about one device and how good its predicted latencies are."""

from __future__ import annotations

import logging

from pydantic import BaseModel, computed_field

from hw_profiles.connections.base import Description
from hw_profiles.connections.local import Local
from hw_profiles.connections.registry import AnyConnection
from hw_profiles.latency_models.prediction_error import ErrorRecord
from hw_profiles.latency_models.robust_regression import Affine
from hw_profiles.measuring.results import Conditions
from hw_profiles.run_settings import DeviceKey

_log = logging.getLogger(__name__)

SCHEMA_VERSION = 2
MAX_NOISE_FLOOR = 0.04
"""Above it a machine is too noisy for its figures to mean anything."""
IDENTITY = ("cpu", "machine", "instruction_set")
"""Fields of `Hardware` by which another device is known."""
FREE_LOAD = 0.75
"""Load that a machine may have beside the threads that are measured."""


class Hardware(BaseModel, frozen=True):
    """Identity of the device as it reports itself; None where it, or the tool that measured, does not say."""

    cpu: str | None = None
    board: str | None = None
    """Such as `Raspberry Pi 5 Model B`."""
    cores: int | None = None
    """Of the machine."""
    usable_cores: int | None = None
    """What the affinity and the CPU quota of the measuring process allowed."""
    cpu_quota: float | None = None
    """CPU time per second that its control groups allowed, in cores; None without a quota."""
    machine: str | None = None
    """Such as `x86_64`."""
    instruction_set: str | None = None
    """What decides how INT8 values are stored: `x86-vnni`, `x86`, `arm`, or the machine."""
    governor: str | None = None
    """What decides the CPU's frequency."""
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
    """UTC, ISO 8601."""
    seconds: float
    """Time spent measuring, held-out checks included."""
    check_seconds: float
    """Of these, on the held-out subnets, which only tell how good the predictions are."""
    conditions: Conditions
    """Of the device meanwhile."""
    connection: AnyConnection = Local()
    """How the device is reached."""
    key: DeviceKey
    hardware: Hardware
    n_blocks: int
    """Distinct blocks in the table; 0 where the device has none."""
    n_calibration: int
    """Whole subnets that the latency model was fitted to."""
    calibration: Affine | None
    """From the sum of a subnet's blocks to its latency alone in a fresh process; None without a table."""
    latency_model: str
    """What predicts latencies, of those that `hw_profiles.latency_models.selection` compares."""
    cross_validated: dict[str, ErrorRecord]
    """Errors of all that were compared on the subnets fitted to, each subnet predicted without itself."""
    held_out: ErrorRecord
    """Of the latency model on other subnets, smallest and largest among them, against one measurement of
    each."""
    held_out_macs: ErrorRecord
    """The same for a line fitted to MACs alone: what the model has to beat."""
    noise_floor: float | None
    """MAPE between two complete passes over the held-out subnets, each model alone in a fresh process;
    None where only one pass was measured."""
    split_half_spearman: float | None
    """Rank correlation of block latencies from even with those from odd trials."""
    slow_share: float = 0.0
    """Share of trials that saw slow moments of the processor alone, see `hw_profiles.measuring.runner`."""
    throttled_share: float = 0.0
    """Share of trials in which a CPU quota stopped the measurement."""
    best_speed_probe_ms: float | None = None
    """Of the device's fastest moment, by which later measurements know a slow one; None: unknown."""
    sentinel_drift: float | None
    """Change of one network's latency over the whole time / its latency."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def too_noisy(self) -> bool:
        """Whether the machine was too busy for these figures to mean anything."""
        return self.noise_floor is not None and self.noise_floor > MAX_NOISE_FLOOR

    @computed_field  # type: ignore[prop-decorator]
    @property
    def busy(self) -> bool:
        """Whether other processes were at work there."""
        load = self.conditions.load
        return load is not None and load[1] > self.key.threads + FREE_LOAD

    def differences(self, told: Description) -> dict[str, object]:
        """What a device says about its processor where this profile says something else."""
        mine = self.hardware.model_dump()
        known = [name for name in IDENTITY if told.get(name) is not None and mine[name] is not None]
        return {name: told[name] for name in known if told[name] != mine[name]}

    def refuse_other(self, told: Description) -> None:
        """Refuse what another device than this one measured; another version of its runtime is a warning.

        Args:
            told: what the device that measured says about itself; nothing is compared where it says nothing.

        Raises:
            ValueError: its hardware is another.
        """
        other = self.differences(told)
        if other:
            mine = {name: getattr(self.hardware, name) for name in other}
            raise ValueError(
                f"what was reached is not the device {self.name!r}: it says {other}, the profile {mine}; its "
                "latencies do not count for that device; profile what is there under another name, or search "
                "with --unmeasured"
            )
        version = told.get("version", self.key.version)
        if told.get("runtime") == self.key.runtime and version != self.key.version:
            _log.warning(
                "the device %r has %s %s now, its profile is of %s: predictions may be off; profile it again",
                self.name,
                self.key.runtime,
                version,
                self.key.version,
            )
