"""Supernets out of pretrained vision transformers."""

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Nas, make_device

import search_spaces
from hw_profiles.latency_models.block_timing import timed_blocks
from hw_profiles.latency_models.other_data import other_data
from hw_profiles.run_settings import RunSettings
from hw_profiles.store import ProfileStore
from nas.data.clean_images import clean_images
from nas.devices.earlier_profile import check_same_profile
from nas.evaluation.trained_run import TrainedRun
from nas.importing.import_run import import_run
from nas.recipes import recipe as recipes
from nas.recipes.recipe import Recipe
from nas.runs.run_dir import RunDir
from nas.runs.weights import trained_weights
from nas.search.untrained import check_subnets_trained
from nas.torch_backend.supernet import Supernet
from nas.training.loaders import rng_of
from nas.training.pretrained import prepare
from nas.training.train import train
from search_spaces.families.vit import ViTSpace

VIT = """\
family: vit
name: small
outputs: 10
channels: 1
resolutions: [8]
patch: 4
width: [16]
depth: [1, 2, 3]
heads: [1, 2]
head_dim: 8
mlp: [8, 16]
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A random network that is imported for the digits."""
    folder = tmp_path_factory.mktemp("imported")
    supernet = Supernet(search_spaces.parse(VIT))
    generator = torch.Generator().manual_seed(0)
    for tensor in supernet.state_dict().values():
        tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
    (folder / "net.pth").write_bytes(b"")
    return import_run(
        supernet, folder / "run", source="timm", checkpoint=folder / "net.pth", dataset="digits"
    )


def pretrained_recipe(imported: RunDir, **changes: object) -> Recipe:
    fixed = {"data.dataset": "digits", "data.root": None, "epochs": 1, "ordering.images": 64}
    return recipes.load("pretrained-vit").replace(
        {"init": str(imported.path), "compute.threads": 1, "compute.accelerator": "cpu", **fixed, **changes}
    )


def test_training_orders_the_network_and_resumes(imported: RunDir, tmp_path: Path) -> None:
    recipe = pretrained_recipe(imported)
    whole = train(recipe, tmp_path / "whole")
    space = whole.space()
    assert isinstance(space, ViTSpace)
    assert space.config.keep is not None

    def interrupt(what: str, done: int, total: int) -> None:
        if done == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "parts", progress=interrupt)
    parts = train(recipe, tmp_path / "parts", resume=True)
    assert parts.space().config == space.config
    expected = trained_weights(whole)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in trained_weights(parts).items())
    check_subnets_trained(TrainedRun.open(whole.path))


def test_profile_of_the_space_serves_all_rankings() -> None:
    space = search_spaces.parse(VIT)
    assert isinstance(space, ViTSpace)
    ranked = space.with_ranking({"depth": [2, 0, 1]})
    assert not ranked.same_but_for_data(space)
    assert ranked.has_blocks_of(space)
    assert not ranked.has_blocks_of(search_spaces.parse(VIT.replace("depth: [1, 2, 3]", "depth: [2, 3]")))
    genomes = ranked.sample(np.random.default_rng(0), 20)
    predicted = make_device(space).latency(ranked)(genomes)
    np.testing.assert_allclose(predicted, make_device(ranked).latency(ranked)(genomes))
    settings = RunSettings(provider="CPUExecutionProvider")
    check_same_profile(make_device(space), ranked, settings)
    # a head for other classes is predicted from measured heads, as in the profiled space itself
    other = ranked.with_data(outputs=7, channels=1)
    places = other_data(other, space, dict.fromkeys(timed_blocks(space), 1.0), lambda: 1e9).counterparts
    assert places.keys() == set(timed_blocks(other)) - set(timed_blocks(space))


@pytest.mark.usefixtures("quick_search")
def test_search_of_a_ranked_run_finds_the_profile_of_the_space(
    nas: Nas, imported: RunDir, tmp_path: Path
) -> None:
    ProfileStore().save(make_device(search_spaces.parse(VIT)))
    run = train(pretrained_recipe(imported), tmp_path / "ranked")
    assert run.space().config.model_dump()["keep"] is not None
    answer = nas(
        "search", run.path, "--device", "desk", "--budget", 12, "--predictor", "ridge", "--unmeasured"
    )
    assert answer.code == 0, answer.err
    assert nas("pick", run.path, "--device", "desk").code == 0


@pytest.mark.parametrize("kind", ["norm", "taylor"])
def test_prepared_weights_compute_the_same(imported: RunDir, kind: str) -> None:
    run = TrainedRun.open(imported.path)
    recipe = pretrained_recipe(imported, **{"ordering.kind": kind})
    assert isinstance(run.space, ViTSpace)
    prepared = prepare(recipe, run.space, run.dataset, run.task, torch.device("cpu"))
    ordered = Supernet(prepared.space).eval()
    ordered.load_state_dict(prepared.weights)
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, before = (net(x, net.space.largest) for net in (ordered, run.supernet))
    torch.testing.assert_close(ours, before, rtol=0, atol=1e-5 * float(before.abs().max()))


def test_first_block_to_remove_is_the_least_important(imported: RunDir) -> None:
    run, recipe = TrainedRun.open(imported.path), pretrained_recipe(imported)
    space = run.space
    assert isinstance(space, ViTSpace)
    device = torch.device("cpu")
    ranked = prepare(recipe, space, run.dataset, run.task, device).space
    assert isinstance(ranked, ViTSpace)
    keep = ranked.config.keep
    assert keep is not None
    losses = {}
    for removed in range(3):
        others = [b for b in range(3) if b != removed]
        supernet = Supernet(space.with_ranking({"depth": [*others, removed]})).eval()
        supernet.load_state_dict(run.supernet.state_dict())
        shallow = supernet.space.arch({**supernet.space.largest, "depth": 2})
        rng = rng_of(recipe.seed, "ordering", 0)
        batches = clean_images(run.dataset, 8, recipe.ordering.images, rng, device)
        with torch.no_grad():
            losses[removed] = sum(float(run.task.loss(supernet(x, shallow), y)) for x, y in batches)
    assert keep[-1] == min(losses, key=lambda removed: losses[removed])


def test_search_before_training_is_an_error(imported: RunDir) -> None:
    message = (
        r"must be trained before a search.*top-1 on 500 validation images: largest \d+\.\d%, smallest .*init"
    )
    with pytest.raises(ValueError, match=message):
        check_subnets_trained(TrainedRun.open(imported.path))


def test_ordering_without_an_effect_is_an_error(imported: RunDir, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="images has no effect with the kind none"):
        pretrained_recipe(imported, **{"ordering.kind": "none"})
    with pytest.raises(ValueError, match=r"distillation\.inplace has no effect with the sampler uniform"):
        pretrained_recipe(imported, sampler={"kind": "uniform"})
    with pytest.raises(ValueError, match="space: init needs the key init"):
        train(recipes.load("pretrained-vit", ["data={dataset: digits}"]), tmp_path / "run")
    with pytest.raises(ValueError, match="of the families vit and traced, got 'digits'"):
        train(recipes.load("digits", ["ordering.kind=norm"]), tmp_path / "run")
    with pytest.raises(ValueError, match="ordering needs the key init"):
        train(recipes.load("digits", ["ordering.kind=norm", "space=vit-digits"]), tmp_path / "run")
