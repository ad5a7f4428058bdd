from dataclasses import replace

import numpy as np
import pytest

from nas.recipe import Recipe
from nas.samplers import SAMPLERS, Sampler, Sandwich
from search_spaces import Space


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_sandwich_is_largest_smallest_and_random_ones(space: Space) -> None:
    resolution = space.resolutions[0]
    largest, smallest, *random = Sandwich(space, n_random=5).subnets(rng(), resolution)
    assert largest == replace(space.largest, resolution=resolution)
    assert smallest == replace(space.smallest, resolution=resolution)
    assert len(set(random)) > 1
    assert len(random) == 5
    space.encode([largest, smallest, *random])  # all are in the space
    assert {arch.resolution for arch in (largest, smallest, *random)} == {resolution}


def test_sandwich_follows_the_generator_alone(tiny: Space) -> None:
    sampler = Sandwich(tiny, n_random=3)
    first = sampler.subnets(rng(1), 8)
    sampler.observe(first, [9.0, 1.0, 2.0, 3.0])
    sampler.subnets(rng(2), 6)
    assert sampler.subnets(rng(1), 8) == first
    assert sampler.subnets(rng(2), 8) != first


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_keeps_its_protocol(tiny: Space, name: str) -> None:
    recipe = Recipe(space="tiny", dataset="digits", epochs=1, n_random=4, sampler=name)
    sampler = SAMPLERS[name](tiny, recipe)
    assert isinstance(sampler, Sampler)
    subnets = sampler.subnets(rng(), 6)
    assert {arch.resolution for arch in subnets} == {6}
    sampler.observe(subnets, [1.0] * len(subnets))
    again = SAMPLERS[name](tiny, recipe)
    again.load_state_dict(sampler.state_dict())
    assert list(again.subnets(rng(5), 8)) == list(sampler.subnets(rng(5), 8))


def test_number_of_random_subnets_comes_from_the_recipe(tiny: Space) -> None:
    recipe = Recipe(space="tiny", dataset="digits", epochs=1, n_random=0)
    assert len(SAMPLERS["sandwich"](tiny, recipe).subnets(rng(), 8)) == 2
