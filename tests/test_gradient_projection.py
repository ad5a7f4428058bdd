"""Projection of conflicting gradients."""

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from safetensors.torch import load_file
from torch import Tensor, nn

from nas.recipes.recipe import Recipe
from nas.runs.files import SUPERNET
from nas.training.gradient_projection import SeparateGradients, projected_sum
from nas.training.train import train
from search_spaces import Arch

SPACE = """\
family: vit
name: tiny-vit
outputs: 10
channels: 1
resolutions: [4]
patch: 2
width: [4, 6]
depth: [1, 2]
heads: [1, 2]
head_dim: 4
mlp_ratio: [1, 2]
"""
seeds = st.integers(0, 2**32)


def pair(seed: int, *, conflict: bool) -> tuple[Tensor, Tensor]:
    """Two gradients of norm 1 whose angle is above or below 90 degrees."""
    generator = torch.Generator().manual_seed(seed)
    first, others = (torch.randn(4, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    first, others = first / first.norm(), others / others.norm()
    if ((first * others).sum() < 0) != conflict:
        first = -first
    return first, others


@given(seeds)
def test_conflicting_gradients_become_orthogonal(seed: int) -> None:
    first, others = pair(seed, conflict=True)
    projected = projected_sum(first, others) - others
    assert abs((projected * others).sum()) < 1e-5  # the epsilon of the division
    # what is removed has the direction of the others
    removed = first - projected
    torch.testing.assert_close(removed, (removed * others).sum() * others)
    # an update along the result does not increase the loss of the other subnets, to first order
    assert (projected_sum(first, others) * others).sum() > 0


@given(seeds)
def test_agreeing_gradients_are_added(seed: int) -> None:
    first, others = pair(seed, conflict=False)
    torch.testing.assert_close(projected_sum(first, others), first + others)


@given(seeds)
def test_multiple_of_the_others_is_limited(seed: int) -> None:
    first, others = pair(seed, conflict=True)
    # without the limit of 2, a small gradient of the others would be multiplied by up to 1000
    result = projected_sum(first, others / 1000)
    assert torch.linalg.vector_norm(result - first) <= 3.001 / 1000


def test_gradients_of_one_of_both_are_unchanged() -> None:
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(4)]
    separate = SeparateGradients(parameters)
    with separate.of_first():
        for parameter in parameters[:2]:
            parameter.grad = torch.tensor([1.0, 0.0])
    for parameter in parameters[1:3]:
        parameter.grad = torch.tensor([-2.0, 2.0])
    norm = separate.combine()
    first, both, others, none = (parameter.grad for parameter in parameters)
    assert first is not None
    assert both is not None
    assert others is not None
    assert first.tolist() == [1, 0]
    # the factor of the others is 2 / 8; (1, 0) + (-2, 2) · 1.25
    torch.testing.assert_close(both, torch.tensor([-1.5, 2.5]))
    assert others.tolist() == [-2, 2]
    assert none is None
    assert norm == pytest.approx((1 + 1.5**2 + 2.5**2 + 8) ** 0.5)


def recipe_of(tmp_path: Path, **changes: Any) -> Recipe:
    (tmp_path / "space.yaml").write_text(SPACE)
    recipe = Recipe.model_validate(
        {
            "space": str(tmp_path / "space.yaml"),
            "epochs": 1,
            "data": {"dataset": "digits", "batch_size": 256},
            "optimizer": {"kind": "sgd", "lr": 0.01},
            "clipping": {"kind": "none"},
            "compute": {"accelerator": "cpu"},
        }
    )
    return recipe.replace(changes)


class OpposedSubnets:
    """The largest and the smallest subnet."""

    def subnets(self, step: Any) -> list[Arch]:
        return [step.largest, step.smallest]

    def observe(self, step: Any, subnets: Any, losses: Any) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None: ...


def weights(recipe: Recipe, out: Path) -> dict[str, Tensor]:
    return load_file(train(recipe, out, sampler=OpposedSubnets()).file(SUPERNET))


def test_training_with_projection(tmp_path: Path) -> None:
    plain = recipe_of(tmp_path)
    projected = plain.replace({"gradient_projection.enabled": True})
    sums, result = weights(plain, tmp_path / "plain"), weights(projected, tmp_path / "projected")
    assert max(float((sums[name] - result[name]).abs().max()) for name in sums) > 1e-5
    # 5 steps: it never starts
    late = weights(projected.replace({"gradient_projection.start": 0.99}), tmp_path / "late")
    assert all(torch.equal(sums[name], late[name]) for name in sums)
    # gradients of parts of the batch are summed before they are projected
    parts = weights(projected.replace({"compute.accumulate": 2}), tmp_path / "parts")
    for name, tensor in result.items():
        torch.testing.assert_close(parts[name], tensor, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gradient_projection.start": 0.5}, "start has no effect without enabled"),
        (
            {"gradient_projection.enabled": True, "sampler.kind": "largest"},
            "gradient_projection has no effect with the sampler largest",
        ),
        (
            {"gradient_projection.enabled": True, "compute.precision": "16-mixed"},
            "compute.precision must be 32-true or bf16-mixed, got 16-mixed",
        ),
    ],
)
def test_projection_without_effect_is_an_error(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        recipe_of(tmp_path, **changes)
