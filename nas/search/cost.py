"""The cost of a search, by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """The evaluations of one step of a search."""

    step: str
    evaluations: int
    validation_images: int
    seconds: float


@dataclass(frozen=True)
class SearchCost:
    """The estimated cost of a search."""

    steps: Sequence[Step]
    calibration_images: int
    seconds_per_subnet: float
    """Seconds per evaluation in the first step."""
    smaller: Sequence[Step]
    """The same steps with a fraction of the validation images."""
    cpu_seconds: float
    """CPU seconds for all evaluations."""

    @property
    def seconds(self) -> float:
        """Seconds for all evaluations."""
        return sum(step.seconds for step in self.steps)

    def record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "steps": [asdict(step) for step in self.steps],
            "calibration_images": self.calibration_images,
            "seconds_per_subnet": self.seconds_per_subnet,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "smaller": {
                "validation_images": self.smaller[0].validation_images,
                "seconds": sum(step.seconds for step in self.smaller),
            },
        }

    @property
    def _calibration(self) -> str:
        return f"and {self.calibration_images:,} calibration " if self.calibration_images else ""

    def lines(self) -> Iterator[str]:
        """The cost as lines of text."""
        for step in self.steps:
            yield (
                f"{step.step}: {step.evaluations:,} evaluations of {step.validation_images:,} validation "
                f"{self._calibration}images, about {step.seconds / max(1, step.evaluations):.2g} s each: "
                f"{_duration(step.seconds)}"
            )
        first, smaller = self.steps[0], self.smaller[0]
        total = f"estimated time of all evaluations: {_duration(self.seconds)}"
        if smaller.validation_images < first.validation_images:
            option = "--screen-images" if len({s.validation_images for s in self.steps}) > 1 else ""
            seconds = _duration(sum(step.seconds for step in self.smaller))
            total += f"; with {option or '--validation-images'} {smaller.validation_images:,}: {seconds}"
        yield total


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} minutes"
