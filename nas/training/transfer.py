"""Start of a training from the weights of another run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from nas.runs.records import SCHEMA_VERSION
from nas.runs.run_dir import RunDir
from nas.torch_backend.supernet import Supernet
from nas.training.checkpoint import newest_weights
from search_spaces import Space

DATA_KEYS = {"name", "description", "outputs", "channels", "resolutions"}
"""What may differ between a space and itself for other data."""


class Transfer(BaseModel, extra="forbid"):
    """Names of the tensors that were loaded, re-initialized and dropped."""

    schema_version: int = SCHEMA_VERSION
    source: str
    """The run that they come from."""
    loaded: list[str]
    reinitialized: list[str]
    """Of the new network, with initial values."""
    dropped: list[str]
    """Of the source, in no use here."""

    @property
    def note(self) -> str:
        """One line for people."""
        parts = (f"{len(self.loaded)} tensors loaded", _listed(self.reinitialized, "re-initialized"))
        return f"weights of {self.source}: {'; '.join(parts)}; {_listed(self.dropped, 'dropped')}"


def transfer(supernet: Supernet, source: str | Path, classes: Sequence[str]) -> Transfer:
    """Load the weights of a run into a supernet of the same space, perhaps for other data.

    The classifier is loaded only where the classes are the same, and whatever has another shape, such as a
    stem for other channels, not at all.

    Args:
        supernet: what to load into.
        source: a run that was trained, imported, or stopped after a checkpoint.
        classes: names of the classes of the new data.

    Raises:
        ValueError: no run, no weights, or a run of another space.
    """
    if Path(source).is_file():
        raise ValueError(
            f"init must be a run directory, got the file {source}; `nas import` makes a run of a checkpoint "
            f"that OFA, AttentiveNAS or AlphaNet published"
        )
    run = RunDir.open(source)
    _check_space(run.space(), supernet.space, str(source))
    known, own = newest_weights(run), supernet.state_dict()
    fitting = {name for name in known.keys() & own.keys() if known[name].shape == own[name].shape}
    if run.info().classes != list(classes):
        fitting -= _classifier(supernet)
    supernet.load_state_dict({name: known[name] for name in fitting}, strict=False)
    return Transfer(
        source=str(source),
        loaded=sorted(fitting),
        reinitialized=sorted(own.keys() - fitting),
        dropped=sorted(known.keys() - fitting),
    )


def _check_space(source: Space, target: Space, name: str) -> None:
    if source.config.model_dump(exclude=DATA_KEYS) != target.config.model_dump(exclude=DATA_KEYS):
        raise ValueError(
            f"the weights of {name} are of the space {source.name!r}, which has other choices than "
            f"{target.name!r}; give the recipe space={name}/space.yaml"
        )


def _classifier(supernet: Supernet) -> set[str]:
    """Names of the classifier's tensors."""
    parameters = list(supernet.classifier.parameters())
    return {name for name, p in supernet.named_parameters() if any(p is own for own in parameters)}


def _listed(names: Sequence[str], what: str) -> str:
    return f"{what}: {', '.join(names)}" if names else f"none {what}"
