"""Progressive shrinking: each phase of the training adds smaller subnets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nas.recipes.phases import Phase, phase_at
from nas.samplers.base import Step
from nas.torch_backend.channel_order import sort_channels
from search_spaces import Arch, Choice, Space

_ALL = 1_000
"""Larger than the number of options of any choice."""
PHASES = (
    Phase(epochs=180),
    Phase(epochs=125, elastic={"kernel": _ALL}),
    Phase(epochs=25, elastic={"kernel": _ALL, "depth": 2}, subnets=2),
    Phase(epochs=125, elastic={"kernel": _ALL, "depth": _ALL}, subnets=2),
    Phase(epochs=25, elastic={"kernel": _ALL, "depth": _ALL, "expand": 2, "width": 2}, subnets=4),
    Phase(epochs=125, elastic={"kernel": _ALL, "depth": _ALL, "expand": _ALL, "width": _ALL}, subnets=4),
)
"""The phases of OFA in their proportions, starting with the training of the largest subnet. OFA has no
elastic widths; here they are added together with the expand ratios."""


class Progressive:
    """Random subnets of the options that the current phase allows (OFA, Cai et al. 2020, §3.3).

    If a phase adds expand ratios, inner channels are sorted by importance first, so that the smaller ratios
    start with the most important ones. The state of the optimizer is reset at the start of each phase.

    Args:
        space: the space of the supernet.
        phases: the phases in order; if empty, the phases of OFA, without kinds of choices that the space does
            not have.

    Raises:
        ValueError: a phase names a kind of choice that the space does not have.
    """

    def __init__(self, space: Space, phases: Sequence[Phase] = ()) -> None:
        self.phases = phases or PHASES
        self.phase = 0
        kinds = {choice.kind for choice in space.choices.values()}
        unknown = {kind for phase in phases for kind in phase.elastic} - kinds
        if unknown:
            raise ValueError(
                f"phases: elastic must name kinds of choices of the space {space.name!r}, {sorted(kinds)}, "
                f"got {sorted(unknown)}"
            )

    def subnets(self, step: Step) -> list[Arch]:
        """See `Sampler`."""
        index, _ = phase_at(self.phases, step.progress)
        if index != self.phase:
            self._enter(index, step)
        phase = self.phases[index]
        genes = step.space.genes
        smallest = [len(gene.options) - len(open_options(gene, phase)) for gene in genes]
        size = (phase.subnets, len(genes))
        return step.decode(step.rng.integers(smallest, step.space.n_options, size=size))

    def _enter(self, index: int, step: Step) -> None:
        previous, self.phase = self.phases[self.phase], index
        expands = [choice for choice in step.space.choices.values() if choice.kind == "expand"]
        trained_ratios = {ratio for choice in expands for ratio in open_options(choice, previous)}
        open_ratios = {ratio for choice in expands for ratio in open_options(choice, self.phases[index])}
        if open_ratios - trained_ratios:
            sort_channels(step.supernet, trained_ratios)
        step.restart()

    def observe(self, step: Step, subnets: Sequence[Arch], losses: Sequence[float]) -> None:
        """See `Sampler`; the losses are not used."""

    def state_dict(self) -> dict[str, Any]:
        """See `Sampler`."""
        return {"phase": self.phase}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Sampler`."""
        self.phase = state["phase"]


def open_options(choice: Choice, phase: Phase) -> tuple[float, ...]:
    """The options of a choice that a phase allows; all for the resolution, which the batch determines."""
    if choice.kind == "resolution":
        return choice.options
    return choice.options[-phase.elastic.get(choice.kind, 1) :]
