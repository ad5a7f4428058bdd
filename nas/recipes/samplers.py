"""Groups of recipe keys that choose the sampler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Discriminator, Field, JsonValue, Tag

from nas.recipes.keys import KIND, Group
from nas.recipes.phases import Phase
from nas.recipes.values import CountOrZero, PathText
from search_spaces import Arch


class RandomSubnetsConfig(Group):
    """A sampler with a chosen number of random subnets per step."""

    kind: Literal[
        "sandwich",
        "attentive_best",
        "attentive_worst",
        "complexity_banks",
        "performance_banks",
        "complexity_adaptive",
        "curriculum",
    ] = "sandwich"
    """`sandwich` (recommended): the largest, the smallest and random subnets; `attentive_best`,
    `attentive_worst`: candidates with the smallest or largest loss (AttentiveNAS); `complexity_banks`,
    `performance_banks`: subnets of similar MACs (ElasticViT); `complexity_adaptive`: draws sizes whose loss
    still changes more often (as in ShiftNAS); `curriculum`: as `sandwich`, but without the smallest sizes in
    the first fifth, for short trainings from `init`."""
    n_random: CountOrZero = 2
    """Subnets per step, in addition to those that the sampler always trains."""


class NestedConfig(Group):
    """A fixed list of subnets: subnets that contain one another (SortedNet), or those of a file."""

    kind: Literal["nested"] = "nested"
    n_random: CountOrZero = 2
    """Subnets per step, in addition to one."""
    archs: PathText | None = None
    """JSON or YAML file with a list of archs, or lists by name, such as the candidates of PreNAS, or a subnet
    of AutoFormer; None: 16 nested subnets from the smallest to the largest one."""


class FixedSamplerConfig(Group):
    """A sampler without further keys."""

    kind: Literal["uniform", "largest", "macs_uniform", "path_importance", "preferred"]
    """`uniform` (recommended for one subnet per step): one random subnet; `largest`: the largest subnet, to
    train a teacher; `macs_uniform`: MACs drawn uniformly; `path_importance`: options with larger gradients,
    more often (PA&DA); `preferred`: subnets that a zero-cost score prefers, with the isomer step (PreNAS)."""


class ProgressiveConfig(Group):
    """Progressive shrinking (OFA): more and more choices are open."""

    kind: Literal["progressive"] = "progressive"
    phases: tuple[Phase, ...] = ()
    """Phases with their own learning rates; none: those of OFA with one learning rate schedule."""


class OneSubnetConfig(Group):
    """One subnet only, as `nas finetune` trains it."""

    kind: Literal["one_subnet"] = "one_subnet"
    arch: Arch
    """The subnet."""


class ImportedSamplerConfig(Group):
    """A sampler of the user, made by a function of the space and the recipe."""

    kind: Annotated[str, Field(pattern=r"^[^:]+:[^:]+$")]
    """`module:object` of the function."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Values for the function."""


_GROUPS = (RandomSubnetsConfig, NestedConfig, FixedSamplerConfig, ProgressiveConfig, OneSubnetConfig)


def _group_name(value: Any) -> str:
    if isinstance(value, Group):
        return type(value).__name__
    kind = value.get(KIND) if isinstance(value, Mapping) else None
    for group in _GROUPS:
        if kind in get_args(group.model_fields[KIND].annotation):
            return group.__name__
    return ImportedSamplerConfig.__name__


SamplerConfig = Annotated[
    Annotated[RandomSubnetsConfig, Tag("RandomSubnetsConfig")]
    | Annotated[NestedConfig, Tag("NestedConfig")]
    | Annotated[FixedSamplerConfig, Tag("FixedSamplerConfig")]
    | Annotated[ProgressiveConfig, Tag("ProgressiveConfig")]
    | Annotated[OneSubnetConfig, Tag("OneSubnetConfig")]
    | Annotated[ImportedSamplerConfig, Tag("ImportedSamplerConfig")],
    Discriminator(_group_name),
]
