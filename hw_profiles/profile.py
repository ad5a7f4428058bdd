"""What is known about one device and how good its latency table is."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, computed_field

from hw_profiles.calibration import Affine
from hw_profiles.errors import ErrorRecord

SCHEMA_VERSION = 1
MAX_NOISE_FLOOR = 0.04
"""Above it a machine is too noisy for its figures to mean anything."""


class DeviceKey(BaseModel, frozen=True):
    """Everything that a latency depends on beside the hardware; tables of other keys are not comparable."""

    runtime: str
    version: str
    """Of the runtime."""
    provider: str
    threads: int
    precision: Literal["fp32"] = "fp32"
    batch: int


class Hardware(BaseModel, frozen=True):
    """Identity of the device as it reports itself."""

    cpu: str
    cores: int | None
    machine: str
    """Instruction set, such as `x86_64`."""
    os: str
    python: str
    numpy: str


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
    key: DeviceKey
    hardware: Hardware
    n_blocks: int
    """Distinct blocks in the table."""
    n_calibration: int
    """Whole subnets that `calibration` was fitted to."""
    calibration: Affine
    """From the sum of a subnet's blocks to its latency alone in a fresh process."""
    held_out: ErrorRecord
    """Of the table on other subnets, smallest and largest among them, against one measurement of each."""
    held_out_macs: ErrorRecord
    """The same for a line fitted to MACs alone: what the table has to beat."""
    noise_floor: float
    """MAPE between two complete passes over the held-out subnets, each model alone in a fresh process."""
    split_half_spearman: float
    """Rank correlation of block latencies from even with those from odd rounds."""
    sentinel_drift: float
    """Change of one network's latency over the whole time / its latency."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def too_noisy(self) -> bool:
        """Whether the machine was too busy for these figures to mean anything."""
        return self.noise_floor > MAX_NOISE_FLOOR
