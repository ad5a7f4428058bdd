import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_YAML
from numpy.typing import NDArray

import search_spaces
from nas.recipes.groups import DataConfig
from nas.recipes.phases import Phase, phase_at
from nas.recipes.recipe import Recipe
from nas.samplers import SAMPLERS, Sampler, Step, make_sampler
from nas.samplers.adaptive import BINS, ComplexityAdaptive
from nas.samplers.attentive import Attentive
from nas.samplers.complexity_banks import ComplexityBanks
from nas.samplers.curriculum import START, Curriculum
from nas.samplers.isomers import best_isomers, exchangeable_genes
from nas.samplers.listed import Listed
from nas.samplers.macs_bins import MacsBins
from nas.samplers.nested import Nested
from nas.samplers.path_importance import PathImportance
from nas.samplers.performance_banks import PerformanceBanks
from nas.samplers.preferred import Preferred, archs_with_every_layer, saliency
from nas.samplers.progressive import PHASES, Progressive, open_options
from nas.samplers.sandwich import Sandwich
from nas.samplers.uniform import Uniform
from nas.torch_backend.supernet import Supernet
from search_spaces import Arch, BlockTable, Space
from search_spaces.costs import macs_table

RECIPE = Recipe(space="tiny", epochs=1, data=DataConfig(dataset="digits"))
NAMES = SAMPLERS.keys() - {"one_subnet"}  # needs an arch


def make_step(
    supernet: Supernet, seed: int = 0, resolution: int | None = None, progress: float = 0.5
) -> Step:
    """A step with images of one resolution, by default the largest; the loss of a subnet is its MACs."""
    return Step(
        rng=np.random.default_rng(seed),
        resolutions=[resolution or supernet.space.resolutions[-1]],
        progress=progress,
        supernet=supernet,
        evaluate_losses=lambda archs: [float(supernet.space.macs(arch)) for arch in archs],
        restart=lambda: None,
    )


@pytest.fixture(scope="module")
def supernet(tiny: Space) -> Supernet:
    return Supernet(tiny)


def test_a_users_factory_that_fails_is_named(tiny: Space) -> None:
    own = RECIPE.replace({"sampler.kind": "math:sqrt"})  # takes one number
    with pytest.raises(ValueError, match=r"^the sampler 'math:sqrt' failed with TypeError: [^\n]*$"):
        make_sampler(tiny, own)


# ---------------------------------------------------------------------- all samplers


def learn(sampler: Sampler, supernet: Supernet, steps: int = 6) -> None:
    """Run steps with artificial losses and gradients."""
    for seed in range(steps):
        step = make_step(supernet, seed, progress=seed / steps)
        subnets = sampler.subnets(step)
        for parameter in supernet.parameters():
            parameter.grad = torch.full_like(parameter, 1.0 + seed)
        sampler.observe(step, subnets, [1.0 + seed + i for i in range(len(subnets))])


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_sampler_restores_its_state(tiny: Space, supernet: Supernet, name: str) -> None:
    sampler, restored = SAMPLERS[name](tiny, RECIPE), SAMPLERS[name](tiny, RECIPE)
    assert isinstance(sampler, Sampler)
    learn(sampler, supernet)
    restored.load_state_dict(sampler.state_dict())
    for seed in range(5):
        first, second = (s.subnets(make_step(supernet, seed, progress=0.95)) for s in (sampler, restored))
        assert list(first) == list(second)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_sampler_chooses_subnets_for_the_size_of_the_images(
    tiny: Space, supernet: Supernet, name: str
) -> None:
    sampler = SAMPLERS[name](tiny, RECIPE)
    for progress, resolution in ((0.0, 6), (0.5, 8), (0.99, 6)):
        subnets = sampler.subnets(make_step(supernet, resolution=resolution, progress=progress))
        assert len(subnets) > 0
        tiny.encode(subnets)  # all are in the space
        assert {arch["resolution"] for arch in subnets} == {resolution}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_state_of_every_sampler_has_only_plain_values(tiny: Space, supernet: Supernet, name: str) -> None:
    sampler = SAMPLERS[name](tiny, RECIPE)
    learn(sampler, supernet)
    buffer = io.BytesIO()
    torch.save(sampler.state_dict(), buffer)
    buffer.seek(0)
    assert repr(torch.load(buffer, weights_only=True)) == repr(sampler.state_dict())  # NaN != NaN


def test_subnets_of_a_network_that_resizes_have_all_resolutions() -> None:
    space = search_spaces.parse(f"{TINY_YAML}input_size: 8\n")
    step = replace(make_step(Supernet(space)), resolutions=space.resolutions)
    assert step.largest == space.largest
    assert step.smallest == space.smallest
    assert {arch["resolution"] for arch in step.decode(step.sample(50))} == set(space.resolutions)


def test_other_resolutions_move_to_the_nearest_one(tiny: Space, supernet: Supernet) -> None:
    step = make_step(supernet, resolution=6)
    assert step.largest == tiny.largest | {"resolution": 6}
    assert {arch["resolution"] for arch in step.decode(tiny.sample(np.random.default_rng(0), 20))} == {6}


# ---------------------------------------------------------------------- single samplers


def test_sandwich_has_the_largest_smallest_and_random_subnets(tiny: Space, supernet: Supernet) -> None:
    largest, smallest, *random = Sandwich(5).subnets(make_step(supernet))
    assert largest == tiny.largest
    assert smallest == tiny.smallest | {"resolution": 8}
    assert len(random) == 5
    assert len(set(random)) > 1


def test_curriculum_starts_with_the_two_largest_options_of_each_choice(
    tiny: Space, supernet: Supernet
) -> None:
    late, early = (
        Curriculum(50).subnets(make_step(supernet, progress=progress)) for progress in (START, START - 0.01)
    )
    assert late == Sandwich(50).subnets(make_step(supernet))
    used = tiny.encode(early)
    lowest = np.maximum(tiny.n_options - 2, 0)
    active = np.array([[gene.name in arch for gene in tiny.genes] for arch in early])
    assert (used >= lowest)[active].all()
    assert early[0] == tiny.largest
    assert early[1] == min(early, key=tiny.macs)
    assert early[1] != tiny.smallest


def sizes(archs: Sequence[Arch], space: Space) -> NDArray[np.int64]:
    return np.array([space.macs(arch) for arch in archs])


def test_macs_uniform_draws_the_outer_bins_and_uniform_does_not() -> None:
    space = search_spaces.get("digits")
    supernet = Supernet(space)
    low, high = sizes([space.smallest, space.largest], space)

    def bins(sampler: Sampler) -> set[int]:
        drawn = [sampler.subnets(make_step(supernet, seed))[0] for seed in range(60)]
        return set(((sizes(drawn, space) - low) * 10 // (high - low + 1)).tolist())

    assert bins(SAMPLERS["macs_uniform"](space, RECIPE)) >= {0, 9}
    assert 9 not in bins(Uniform())


def test_subnets_drawn_from_a_bin_are_in_this_bin(tiny: Space, supernet: Supernet) -> None:
    bins, step = MacsBins(4), make_step(supernet)
    for index in range(4):
        assert bins.of(step, bins.draw(step, index, 3)).tolist() == [index] * 3
    assert bins.of(step, tiny.encode([step.smallest, step.largest])).tolist() == [0, 3]


def test_attentive_trains_the_best_or_worst_candidate(supernet: Supernet) -> None:
    candidate_losses: list[list[float]] = []

    def evaluate_losses(archs: Sequence[Arch]) -> list[float]:
        candidate_losses.append(np.random.default_rng(len(candidate_losses)).random(len(archs)).tolist())
        candidates.extend(archs)
        return candidate_losses[-1]

    for choose in (min, max):
        candidate_losses.clear()
        candidates: list[Arch] = []
        step = replace(make_step(supernet), evaluate_losses=evaluate_losses)
        largest, *attentive, smallest = Attentive(2, choose).subnets(step)
        assert (largest, smallest) == (step.largest, step.smallest)
        assert [len(losses) for losses in candidate_losses] == [3, 3]
        first, second = (losses.index(choose(losses)) for losses in candidate_losses)
        assert attentive == [candidates[first], candidates[3 + second]]


def test_bank_changes_by_one_and_has_subnets_of_one_size(supernet: Supernet) -> None:
    sampler, bins = ComplexityBanks(n_random=1), MacsBins(8)
    previous = sampler.bank
    visited = set()
    for seed in range(40):
        step = make_step(supernet, seed)
        *members, _ = sampler.subnets(step)
        assert abs(sampler.bank - previous) <= 1
        previous = sampler.bank
        visited.add(previous)
        assert len(members) == 2
        # a bank with few subnets takes some of a neighbour
        assert np.ptp(bins.of(step, step.space.encode(members))) <= 1
    assert len(visited) > 3


def test_performance_banks_store_the_best_subnets(supernet: Supernet) -> None:
    sampler = PerformanceBanks(n_random=1)
    learn(sampler, supernet, steps=20)
    assert any(sampler.banks)
    for bank in sampler.banks:  # the losses are MACs
        for genome, loss in bank.items():
            assert loss == macs_table(supernet.space)(np.array([genome]))[0]
        assert list(bank.values()) == sorted(bank.values())


def test_size_whose_loss_changes_is_drawn_more_often(supernet: Supernet) -> None:
    sampler = ComplexityAdaptive(n_random=2)
    assert sampler.shares() == pytest.approx(np.full(BINS, 1 / BINS))
    step = make_step(supernet)
    small, large = (step.decode(sampler.bins.draw(step, index, 1))[0] for index in (0, BINS - 1))
    for i in range(30):  # the loss of the small subnet falls, that of the large one is constant
        sampler.observe(step, [step.largest, step.smallest, small, large], [0.0, 0.0, 30.0 - i, 1.0])
    shares = sampler.shares()
    assert shares[0] == max(shares)
    assert shares[0] > 2 * shares[-1]
    assert min(shares) >= 0.2 / BINS
    assert shares.sum() == pytest.approx(1)


def test_paths_with_large_gradients_are_drawn_more_often_as_training_progresses(
    tiny: Space, supernet: Supernet
) -> None:
    sampler = PathImportance(tiny)
    gene = [gene.name for gene in tiny.genes].index("stem.width")
    for arch, size in ((tiny.smallest, 1.0), (tiny.largest, 3.0)):
        for parameter in supernet.parameters():
            parameter.grad = None
        stem = supernet.get_parameter("stem.conv.weight")
        stem.grad = torch.zeros_like(stem)
        stem.grad.view(-1)[0] = size
        sampler.observe(make_step(supernet), [arch], [1.0])
    # norms of 1 and 3; at half of the training, half of the probability is uniform
    assert sampler.shares(gene, 1.0) == pytest.approx([0.25, 0.75])
    assert sampler.shares(gene, 0.5) == pytest.approx([0.375, 0.625])
    assert sampler.shares(gene, 0.0) == pytest.approx([0.5, 0.5])


def test_preferred_subnets_do_not_change_and_have_the_best_score_of_their_size(
    tiny: Space, supernet: Supernet
) -> None:
    sampler = Preferred(tiny, seed=0)
    drawn = {sampler.subnets(make_step(supernet, seed))[0] for seed in range(60)}
    assert sampler.genomes is not None
    assert 1 < len(drawn) <= len(sampler.genomes) <= 16
    step = make_step(supernet)
    of, score = sampler.bins.of, saliency(tiny, 0)
    best = dict(zip(of(step, sampler.genomes).tolist(), score(sampler.genomes), strict=True))
    others = step.sample(200)
    worse = [best[b] >= s - 1e-9 for b, s in zip(of(step, others).tolist(), score(others), strict=True)]
    assert all(worse)  # the 4,000 candidates have nearly all of the 640 subnets of this resolution


def test_isomers_have_larger_choices_in_more_important_blocks(rng: np.random.Generator) -> None:
    space = search_spaces.parse(
        """{family: vit, name: v, outputs: 3, channels: 1, resolutions: [8], patch: 4, width: [8, 16],
        depth: [3, 4], heads: [1, 2], head_dim: 4, mlp_ratio: [1, 2, 4]}"""
    )
    groups = exchangeable_genes(space)
    assert [{space.genes[column].kind for column in group} for group in groups] == [{"heads"}, {"mlp_ratio"}]
    assert [len(group) for group in groups] == [4, 4]
    importance = {f"stages.0.blocks.{b}": share for b, share in enumerate((1.0, 3.0, 2.0, 4.0))}
    score = BlockTable(space, lambda block: block.macs * importance.get(block.name.rpartition(".")[0], 0.0))
    genomes = space.canonical(space.sample(rng, 50))
    best = best_isomers(space, genomes, score, groups)
    assert (macs_table(space)(best) == macs_table(space)(genomes)).all()
    assert (score(best) >= score(genomes)).all()  # MACs are linear in each choice
    assert (score(best) > score(genomes)).any()
    assert (best_isomers(space, best, score, groups) == best).all()
    for before, arch in zip(space.decode(genomes), space.decode(best), strict=True):
        blocks = [b for b in (3, 1, 2, 0) if b < int(arch["depth"])]  # the most important one first
        for kind in ("heads", "mlp_ratio"):
            values = [arch[f"stages.0.blocks.{b}.{kind}"] for b in blocks]
            assert values == sorted(values, reverse=True)
            assert sorted(values) == sorted(before[f"stages.0.blocks.{b}.{kind}"] for b in blocks)


def test_blocks_of_other_sizes_are_not_exchanged(tiny: Space) -> None:
    # the two blocks of the first stage have other strides, the second stage has one choice for all blocks
    assert exchangeable_genes(tiny) == []


def test_larger_subnets_have_more_saliency(tiny: Space) -> None:
    check_saliency(tiny)


def test_larger_transformers_have_more_saliency() -> None:
    check_saliency(search_spaces.get("vit-digits"))


def check_saliency(space: Space) -> None:
    score = saliency(space, 0)
    small, large = score(space.encode([space.smallest, space.largest]))
    assert 0 < small < large


def test_layers_that_the_largest_subnet_lacks_are_scored() -> None:
    # the largest widths are equal, so only smaller subnets have a convolution in the shortcut
    space = search_spaces.parse(
        """{name: equal, outputs: 3, channels: 1, resolutions: [8], divisor: 2, head: {width: [4]},
        stem: {width: [2, 4], stride: 1},
        stages: [{width: [4], depth: [1], kernel: [3], expand: [1, 2], shortcut: projection}]}"""
    )
    archs = archs_with_every_layer(space)
    assert archs[0] == space.largest
    nodes = {node.path for arch in archs for node in space.network(arch).nodes if node.parameters}
    assert "stages.0.blocks.0.shortcut.conv" in nodes
    blocks = [block for slot in space.slots for block in space.slot_blocks(slot)]
    assert nodes == {node.path for block in blocks for node in block.nodes if node.parameters}
    assert (saliency(space, 0)(space.encode([space.smallest, space.largest])) > 0).all()


def test_candidates_of_a_file_are_trained(tmp_path: Path) -> None:
    space = search_spaces.get("autoformer-tiny")
    sizes = {"6.0": [(12, 192, 4)], "7.0": [(12, 216, 4), (12, 216, 3)]}  # depth, width, heads
    candidates = {
        name: [
            {"layer_num": d, "embed_dim": [w] * d, "mlp_ratio": [4.0] * d, "num_heads": [h] * d, "score": 1.0}
            for d, w, h in archs
        ]
        for name, archs in sizes.items()
    }
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(candidates))
    own = RECIPE.replace({"sampler.kind": "nested", "sampler.n_random": 0, "sampler.archs": str(path)})
    sampler = make_sampler(space, own)
    assert isinstance(sampler, Listed)
    assert sampler.shares(space).tolist() == [0.5, 0.25, 0.25]  # two groups of equal width and depth
    step = make_step(Supernet(space))
    drawn = {sampler.subnets(replace(step, rng=np.random.default_rng(seed)))[0] for seed in range(40)}
    widths = {(arch["width"], arch["stages.0.blocks.0.heads"]) for arch in drawn}
    assert widths == {(192, 4), (216, 4), (216, 3)}
    path.write_text(f"[{space.smallest.to_json()}]")
    (smallest,) = make_sampler(space, own).subnets(step)
    assert smallest == space.smallest
    subnet = path.with_suffix(".yaml")
    ratios, heads = [4, 3.5, *[4] * 10], [3] * 12
    entries = f"DEPTH: 12, EMBED_DIM: 192, MLP_RATIO: {ratios}, NUM_HEADS: {heads}"
    subnet.write_text(f"SUPERNET: {{DEPTH: 14}}\nRETRAIN: {{{entries}}}\n")
    (arch,) = make_sampler(space, own.replace({"sampler.archs": str(subnet)})).subnets(step)
    assert (arch["depth"], arch["stages.0.blocks.1.mlp_ratio"]) == (12, 3.5)
    for content, message in (
        ("{}", "must have a list of archs"),
        ("[]", "must have a list of archs"),
        ("[3]", "arch 1"),
        ('[{"layer_num": 3}]', "arch 1: the notation must have the keys"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            make_sampler(space, own)


def test_nested_subnets_are_nested(tiny: Space, supernet: Supernet) -> None:
    sampler = Nested(n_random=1)
    drawn = {arch for seed in range(80) for arch in sampler.subnets(make_step(supernet, seed))}
    genomes = tiny.encode(sorted(drawn, key=tiny.macs))
    raw_depth = [gene.depth is None for gene in tiny.genes]  # the others are 0 in inactive blocks
    assert (np.diff(genomes[:, raw_depth], axis=0) >= 0).all()
    assert 8 < len(drawn) <= 16


# ---------------------------------------------------------------------- progressive shrinking


def test_phases_add_options_in_descending_order(tiny: Space, supernet: Supernet) -> None:
    sampler = Progressive(tiny)
    total = sum(phase.epochs for phase in PHASES)
    starts = np.cumsum([0, *(phase.epochs for phase in PHASES[:-1])]) / total
    seen: list[set[str]] = []
    counts = []
    for index, start in enumerate(starts):
        steps = [make_step(supernet, seed, progress=float(start) + 1e-6) for seed in range(40)]
        drawn = [sampler.subnets(step) for step in steps]
        assert sampler.phase == index
        counts.append(len(drawn[0]))
        genomes = tiny.encode([arch for archs in drawn for arch in archs])
        largest = tiny.encode([tiny.largest])
        seen.append({tiny.genes[g].kind for g in np.flatnonzero((genomes != largest).any(axis=0))})
    assert counts == [1, 1, 2, 2, 4, 4]
    assert seen[0] == set()
    assert seen[1] == {"kernel"}
    assert {"kernel", "depth"} <= seen[2]
    assert {"kernel", "depth", "expand", "width"} <= seen[-1]


def test_channels_are_sorted_and_the_optimizer_is_reset_when_expand_ratios_are_added(
    tiny: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[object] = []
    monkeypatch.setattr(
        "nas.samplers.progressive.sort_channels", lambda net, trained: events.append(sorted(trained))
    )
    phases = (Phase(epochs=1), Phase(epochs=1, elastic={"kernel": 2}), Phase(epochs=1, elastic={"expand": 2}))
    sampler = Progressive(tiny, phases)
    for progress in (0.0, 0.2, 0.4, 0.5, 0.7, 0.9):
        step = make_step(Supernet(tiny), progress=progress)
        sampler.subnets(replace(step, restart=lambda: events.append("restart")))
    assert events == ["restart", [2.0], "restart"]


def test_phase_and_its_share_at_a_progress() -> None:
    phases = (Phase(epochs=1), Phase(epochs=3))
    assert phase_at(phases, 0.0) == (0, 0.0)
    assert phase_at(phases, 0.125) == (0, 0.5)
    assert phase_at(phases, 0.25) == (1, 0.0)
    assert phase_at(phases, 0.625) == (1, 0.5)  # 1.5 of 3 epochs
    assert phase_at(phases, 1.0) == (1, 1.0)


def test_open_options_are_the_largest_ones(tiny: Space) -> None:
    expand = next(choice for choice in tiny.genes if choice.kind == "expand")
    assert open_options(expand, Phase(epochs=1)) == expand.options[-1:]
    assert open_options(expand, Phase(epochs=1, elastic={"expand": 99})) == expand.options
    assert open_options(tiny.choices["resolution"], Phase(epochs=1)) == tiny.resolutions


def test_phase_with_an_unknown_kind_is_an_error(tiny: Space) -> None:
    with pytest.raises(ValueError, match=r"elastic must name kinds .*'kernel'.*got \['kernels'\]"):
        Progressive(tiny, (Phase(epochs=1, elastic={"kernels": 2}),))
