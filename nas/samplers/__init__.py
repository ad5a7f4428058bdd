"""Samplers: they choose the subnets of each training step.

To add a sampler, write a class with the methods of `Sampler` and add it to `SAMPLERS`, or name its factory as
`module:object` in the recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext

from nas.notation.arch_file import load_archs
from nas.plugins import check, resolve
from nas.recipes.recipe import Recipe
from nas.recipes.samplers import (
    ImportedSamplerConfig,
    NestedConfig,
    OneSubnetConfig,
    RandomSubnetsConfig,
)
from nas.samplers.adaptive import ComplexityAdaptive
from nas.samplers.attentive import Attentive
from nas.samplers.base import Sampler, Step
from nas.samplers.complexity_banks import ComplexityBanks
from nas.samplers.curriculum import Curriculum
from nas.samplers.largest import Largest
from nas.samplers.listed import Listed
from nas.samplers.macs_uniform import MacsUniform
from nas.samplers.nested import Nested
from nas.samplers.one_subnet import OneSubnet
from nas.samplers.path_importance import PathImportance
from nas.samplers.performance_banks import PerformanceBanks
from nas.samplers.preferred import Preferred
from nas.samplers.progressive import Progressive
from nas.samplers.sandwich import Sandwich
from nas.samplers.uniform import Uniform
from search_spaces import Arch, Space
from search_spaces.checked import errors_of

__all__ = ["SAMPLERS", "Sampler", "SamplerFactory", "Sandwich", "Step", "make_sampler"]

SamplerFactory = Callable[[Space, Recipe], Sampler]
"""Creates a sampler; the type of a user's `module:object`."""

SAMPLERS: Mapping[str, SamplerFactory] = {
    "sandwich": lambda space, recipe: Sandwich(_n_random(recipe)),
    "largest": lambda space, recipe: Largest(),
    "uniform": lambda space, recipe: Uniform(),
    "macs_uniform": lambda space, recipe: MacsUniform(),
    "progressive": lambda space, recipe: Progressive(space, recipe.phases),
    "attentive_best": lambda space, recipe: Attentive(_n_random(recipe), choose=min),
    "attentive_worst": lambda space, recipe: Attentive(_n_random(recipe), choose=max),
    "complexity_banks": lambda space, recipe: ComplexityBanks(_n_random(recipe)),
    "performance_banks": lambda space, recipe: PerformanceBanks(_n_random(recipe)),
    "complexity_adaptive": lambda space, recipe: ComplexityAdaptive(_n_random(recipe)),
    "path_importance": lambda space, recipe: PathImportance(space),
    "preferred": lambda space, recipe: Preferred(space, recipe.seed),
    "one_subnet": lambda space, recipe: OneSubnet(_arch(recipe)),
    "curriculum": lambda space, recipe: Curriculum(_n_random(recipe)),
    "nested": lambda space, recipe: _nested(space, recipe),
}


def make_sampler(space: Space, recipe: Recipe) -> Sampler:
    """Create the sampler that the recipe names.

    Raises:
        ValueError: the name is unknown, or a user's factory fails or does not return a `Sampler`.
    """
    kind = recipe.sampler.kind
    factory = resolve("sampler", kind, SAMPLERS, allow_import=True)
    imported = isinstance(recipe.sampler, ImportedSamplerConfig)
    with errors_of(f"the sampler {kind!r}") if imported else nullcontext():
        sampler = factory(space, recipe)
    check("sampler", kind, sampler, Sampler)
    return sampler


def _n_random(recipe: Recipe) -> int:
    assert isinstance(recipe.sampler, RandomSubnetsConfig)
    return recipe.sampler.n_random


def _nested(space: Space, recipe: Recipe) -> Sampler:
    config = recipe.sampler if isinstance(recipe.sampler, NestedConfig) else NestedConfig()
    if config.archs is None:
        return Nested(config.n_random)
    return Listed(config.n_random, load_archs(space, config.archs))


def _arch(recipe: Recipe) -> Arch:
    assert isinstance(recipe.sampler, OneSubnetConfig)
    return recipe.sampler.arch
