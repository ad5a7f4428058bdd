"""Fits to whole networks on devices whose every layer is known."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone

import search_spaces
from hw_profiles.latency_models.base import TABLE, Linear, Network, sums
from hw_profiles.latency_models.layerwise import LayerFit, robust_costs
from hw_profiles.latency_models.prediction_error import compare
from hw_profiles.latency_models.roofline import KINDS, TERMS, shapes, terms
from hw_profiles.latency_models.selection import (
    LAYERS,
    MACS,
    TABLE_AND_LAYERS,
    TABLE_AND_WEIGHTS,
    block_macs,
    select_model,
    weight_bytes,
)
from search_spaces import Block, BlockTable, Genomes, Space
from search_spaces.operators import Conv2d

Vector = NDArray[np.float64]
SPACE = search_spaces.get("digits")
RNG = np.random.default_rng(0)
TRAIN, TEST = SPACE.sample(RNG, 30), SPACE.sample(RNG, 200)


def networks_of(genomes: Genomes) -> list[Network]:
    return [SPACE.blocks(arch) for arch in SPACE.decode(genomes)]


@cache
def fitted_networks() -> list[Network]:
    return networks_of(TRAIN)


@cache
def other_networks() -> list[Network]:
    return networks_of(TEST)


def roofline_ms(block: Block) -> float:
    """A device that is exactly a roofline: 2 µs a launch, 1 µs for 1000 numbers moved or 2000 MACs."""
    return sum(0.002 + 1e-6 * shape.traffic + 5e-7 * shape.macs for shape in shapes(block))


def launch_ms(block: Block) -> float:
    """A device on which only launches count."""
    return 0.01 * len(shapes(block))


def jagged_ms(block: Block) -> float:
    """A device slower by up to 40 % on some shapes, in a way that no sum of MACs and traffic can express."""
    nodes = shapes(block)
    side = np.sqrt(nodes[-1].pixels_out)
    bump = 1 + 0.2 * np.sin(block.inputs[0].channels / 5) + 0.2 * np.cos(len(nodes) * side / 3)
    return float(bump * roofline_ms(block))


def test_terms_add_up_to_what_the_layers_say() -> None:
    network = SPACE.network(SPACE.largest)
    total = dict(zip(TERMS, np.sum([terms(shape) for shape in shapes(network)], axis=0), strict=True))
    assert total["launch"] == sum(not node.op.in_place for node in network.nodes)
    assert sum(v for k, v in total.items() if k.startswith("macs.")) == SPACE.macs(SPACE.largest)
    depthwise = [n for n in network.nodes if isinstance(n.op, Conv2d) and n.op.groups > 1]
    assert total["macs.depthwise"] == sum(node.macs for node in depthwise)
    moved = sum(node.specs[0].numel + node.output.numel for node in depthwise)
    assert total["traffic.depthwise"] == moved


def test_every_layer_of_every_space_has_a_kind(any_space: Space) -> None:
    network = any_space.network(any_space.largest)
    assert {shape.kind for shape in shapes(network)} <= set(KINDS)


@pytest.mark.parametrize("device_ms", [roofline_ms, launch_ms])
def test_a_device_of_the_assumed_form_is_recovered(device_ms: object) -> None:
    assert callable(device_ms)
    truth = sums(other_networks(), device_ms)
    fit = LayerFit().fit(fitted_networks(), sums(fitted_networks(), device_ms))
    assert compare(BlockTable(SPACE, fit.block_ms, fit.intercept_ms)(TEST), truth).mape < 0.005


def test_outliers_and_noise_hardly_matter() -> None:
    rng = np.random.default_rng(1)
    clean = sums(fitted_networks(), roofline_ms)
    noisy = clean * np.exp(0.01 * rng.standard_normal(30))
    noisy[:6] *= 1.5  # one in five was disturbed while measured
    truth = sums(other_networks(), roofline_ms)
    fit = LayerFit().fit(fitted_networks(), noisy)
    assert compare(fit.predict(other_networks()), truth).mape < 0.03


def test_layers_beat_macs_where_the_device_is_no_roofline() -> None:
    train = networks_of(SPACE.sample(np.random.default_rng(0), 50))
    known, truth = sums(train, jagged_ms), sums(other_networks(), jagged_ms)
    ours = compare(LayerFit().fit(train, known).predict(other_networks()), truth)
    rival = compare(Linear(block_macs).fit(train, known).predict(other_networks()), truth)
    assert ours.mape < 0.5 * rival.mape


def test_genomes_networks_and_blocks_agree() -> None:
    fit = LayerFit().fit(fitted_networks(), sums(fitted_networks(), jagged_ms))
    raw = np.random.default_rng(2).integers(0, SPACE.n_options, size=(20, len(SPACE.genes)))
    of_networks = fit.predict(networks_of(raw))
    np.testing.assert_allclose(BlockTable(SPACE, fit.block_ms, fit.intercept_ms)(raw), of_networks)
    one = networks_of(raw)[0]
    assert of_networks[0] == pytest.approx(fit.intercept_ms + sum(map(fit.block_ms, one)))


def test_unit_of_the_latency_does_not_matter() -> None:
    known = sums(fitted_networks(), jagged_ms)
    ms, us = (LayerFit().fit(fitted_networks(), factor * known) for factor in (1, 1000))
    np.testing.assert_allclose(1000 * ms.predict(other_networks()), us.predict(other_networks()), rtol=1e-6)


def test_it_is_a_scikit_learn_estimator_and_deterministic() -> None:
    fit = LayerFit(roofline_ms)
    assert clone(fit).get_params() == {"table_ms": roofline_ms}
    known = sums(fitted_networks(), jagged_ms)
    twice = [clone(fit).fit(fitted_networks(), known).predict(other_networks()) for _ in range(2)]
    np.testing.assert_array_equal(*twice)


def test_robust_costs_are_never_negative_and_leave_out_terms_that_are_absent() -> None:
    rng = np.random.default_rng(3)
    columns = np.column_stack([np.ones(40), rng.uniform(1, 2, 40), np.zeros(40), rng.uniform(1, 2, 40)])
    # the last term lowers the latency, which no cost can do: it is 0 and the others are as good as they can
    costs = robust_costs(columns, columns @ [1.0, 2.0, 0.0, -0.5])
    assert (costs >= 0).all()
    assert costs[2] == 0
    assert costs[3] == 0


@pytest.mark.parametrize(
    ("n", "latency_ms", "message"),
    [
        (0, np.ones(0), "at least one"),
        (10, np.ones(9), "9 latencies of 10 subnets"),
        (10, np.append(np.ones(9), 0.0), "> 0 ms"),
        (10, np.append(np.ones(9), np.nan), "> 0 ms"),
    ],
)
def test_invalid_measurements_raise_an_error(n: int, latency_ms: Vector, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayerFit().fit(fitted_networks()[:n], latency_ms)


# ---------------------------------------------------------------- choice


def test_without_a_table_a_fit_of_layers_is_compared_with_macs() -> None:
    choice = select_model(fitted_networks(), sums(fitted_networks(), launch_ms))
    assert choice.name == LAYERS
    assert set(choice.errors) == {LAYERS, MACS}
    assert choice.errors[LAYERS].n == len(TRAIN)
    assert choice.errors[LAYERS].mape < choice.errors[MACS].mape


def test_a_table_that_is_right_is_chosen_and_one_that_is_not_is_corrected() -> None:
    known, truth = sums(fitted_networks(), jagged_ms), sums(other_networks(), jagged_ms)
    right = select_model(fitted_networks(), known, jagged_ms)
    assert right.name == TABLE
    np.testing.assert_allclose(right.model.predict(other_networks()), truth, rtol=1e-6)
    # the table misses what the device spends on launches: 0.03 ms for every layer
    launched = known + sums(fitted_networks(), lambda block: 0.03 * len(shapes(block)))
    corrected = select_model(fitted_networks(), launched, jagged_ms)
    assert corrected.name == TABLE_AND_LAYERS
    assert corrected.errors[TABLE_AND_LAYERS].mape < 0.5 * corrected.errors[TABLE].mape


def test_networks_that_outgrow_the_cache_pay_for_their_weights() -> None:
    def in_a_network_ms(block: Block) -> float:
        return 1.1 * jagged_ms(block) + 2e-6 * weight_bytes(block)

    known, truth = sums(fitted_networks(), in_a_network_ms), sums(other_networks(), in_a_network_ms)
    choice = select_model(fitted_networks(), known, jagged_ms)
    assert choice.name == TABLE_AND_WEIGHTS
    np.testing.assert_allclose(choice.model.predict(other_networks()), truth, rtol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 9])
def test_of_too_few_networks_for_folds_the_simplest_model_is_taken(n: int) -> None:
    known = sums(fitted_networks()[:n], jagged_ms)
    choice = select_model(fitted_networks()[:n], known, jagged_ms)
    assert (choice.name, choice.errors) == (TABLE, {})
    np.testing.assert_allclose(choice.model.predict(fitted_networks()[:n]), known, rtol=1e-6)
