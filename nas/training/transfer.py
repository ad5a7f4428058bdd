"""Initialization of a training with the weights of another run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from nas.runs.records import SCHEMA_VERSION
from nas.runs.run_dir import RunDir
from nas.torch_backend.supernet import Supernet
from nas.training.checkpoint import newest_weights
from search_spaces import Space


class Transfer(BaseModel, extra="forbid"):
    """Names of the tensors that were loaded, re-initialized and dropped."""

    schema_version: int = SCHEMA_VERSION
    source: str
    """The run from which the weights were loaded."""
    loaded: list[str]
    """Tensors that were loaded from the source."""
    reinitialized: list[str]
    """Tensors of the new network that were not loaded."""
    dropped: list[str]
    """Tensors of the source that were not used."""

    @property
    def note(self) -> str:
        """A summary in one line."""
        parts = (f"{len(self.loaded)} tensors loaded", _listed(self.reinitialized, "re-initialized"))
        return f"weights of {self.source}: {'; '.join(parts)}; {_listed(self.dropped, 'dropped')}"


def transfer(supernet: Supernet, source: str | Path, output_names: Sequence[str]) -> Transfer:
    """Load the weights of a run into a supernet of the same space, for the same or other data.

    The classifier is loaded only if the outputs have the same names; an imported run without images has no
    names. Tensors with another shape, such as a stem for another number of channels, are not loaded.

    Args:
        supernet: the supernet to load the weights into.
        source: a trained or imported run, or an unfinished one with a checkpoint.
        output_names: names of the outputs for the new data.

    Returns:
        which tensors were loaded.

    Raises:
        ValueError: `source` is not a run, has no weights, or is of another space.
    """
    if Path(source).is_file():
        raise ValueError(
            f"init must be a run directory, got the file {source}; create a run from a checkpoint of another "
            f"tool with `nas import`"
        )
    run = RunDir.open(source)
    _check_space(run.space(), supernet.space, str(source))
    weights, initial = newest_weights(run), supernet.state_dict()
    names = {name for name in weights.keys() & initial.keys() if weights[name].shape == initial[name].shape}
    if run.info().output_names not in ([], list(output_names)):
        names -= classifier_names(supernet)
    supernet.load_state_dict({name: weights[name] for name in names}, strict=False)
    return Transfer(
        source=str(source),
        loaded=sorted(names),
        reinitialized=sorted(initial.keys() - names),
        dropped=sorted(weights.keys() - names),
    )


def _check_space(source: Space, target: Space, name: str) -> None:
    if not source.same_but_for_data(target):
        raise ValueError(
            f"the weights of {name} are of the space {source.name!r}, which has other choices than "
            f"{target.name!r}; give the recipe space={name}/space.yaml"
        )


def classifier_names(supernet: Supernet) -> set[str]:
    """Names of the classifier's tensors."""
    parameters = list(supernet.classifier.parameters())
    return {name for name, p in supernet.named_parameters() if any(p is other for other in parameters)}


def _listed(names: Sequence[str], action: str) -> str:
    return f"{action}: {', '.join(names)}" if names else f"none {action}"
