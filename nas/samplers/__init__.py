"""Which subnets each training step computes: one sampler a file, and the table of their names.

To add one, write an object with the methods of `Sampler` and a line in `SAMPLERS`, or name a user's own
factory as `module:object` in the recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext

from nas.plugins import check, resolve
from nas.recipes.recipe import Recipe
from nas.samplers.adaptive import ComplexityAdaptive
from nas.samplers.attentive import Attentive
from nas.samplers.base import Sampler, Step
from nas.samplers.complexity_banks import ComplexityBanks
from nas.samplers.largest import Largest
from nas.samplers.macs_uniform import MacsUniform
from nas.samplers.nested import Nested
from nas.samplers.one_subnet import OneSubnet
from nas.samplers.path_importance import PathImportance
from nas.samplers.performance_banks import PerformanceBanks
from nas.samplers.preferred import Preferred
from nas.samplers.progressive import Progressive
from nas.samplers.sandwich import Sandwich
from nas.samplers.uniform import Uniform
from search_spaces import Space
from search_spaces.checked import errors_of

__all__ = ["SAMPLERS", "Sampler", "SamplerFactory", "Sandwich", "Step", "make_sampler"]

SamplerFactory = Callable[[Space, Recipe], Sampler]
"""What a user's `module:object` must be."""

SAMPLERS: Mapping[str, SamplerFactory] = {
    "sandwich": lambda space, recipe: Sandwich(recipe.n_random),
    "largest": lambda space, recipe: Largest(),
    "uniform": lambda space, recipe: Uniform(),
    "macs_uniform": lambda space, recipe: MacsUniform(),
    "progressive": lambda space, recipe: Progressive(space, recipe.phases),
    "attentive_best": lambda space, recipe: Attentive(recipe.n_random, choose=min),
    "attentive_worst": lambda space, recipe: Attentive(recipe.n_random, choose=max),
    "complexity_banks": lambda space, recipe: ComplexityBanks(recipe.n_random),
    "performance_banks": lambda space, recipe: PerformanceBanks(recipe.n_random),
    "complexity_adaptive": lambda space, recipe: ComplexityAdaptive(recipe.n_random),
    "path_importance": lambda space, recipe: PathImportance(space),
    "preferred": lambda space, recipe: Preferred(space, recipe.seed),
    "nested": lambda space, recipe: Nested(recipe.n_random),
}


def make_sampler(space: Space, recipe: Recipe) -> Sampler:
    """The sampler that the recipe names, or the one of a recipe that trains one subnet.

    Raises:
        ValueError: unknown name, or a user's object that fails or makes no `Sampler`.
    """
    if recipe.arch:
        return OneSubnet(recipe.arch)
    factory = resolve("sampler", recipe.sampler, SAMPLERS, allow_import=True)
    own = recipe.sampler not in SAMPLERS
    with errors_of(f"the sampler {recipe.sampler!r}") if own else nullcontext():
        sampler = factory(space, recipe)
    check("sampler", recipe.sampler, sampler, Sampler)
    return sampler
