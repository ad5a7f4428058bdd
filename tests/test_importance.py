"""Order of channels, heads and blocks by importance."""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import search_spaces
from nas.torch_backend.block_rank import rank_blocks
from nas.torch_backend.coupled_channels import elastic_channels
from nas.torch_backend.importance import norm_importance, sort_units, taylor_importance
from nas.torch_backend.supernet import Supernet
from search_spaces import Block
from search_spaces.families.vit import ViTSpace

VIT = """\
family: vit
name: small
outputs: 5
channels: 3
resolutions: [8]
patch: 2
width: [16]
depth: [1, 2, 3]
heads: [1, 2, 4]
head_dim: 4
mlp: [8, 24]
"""


def random_supernet(text: str) -> Supernet:
    """A float64 supernet with random tensors, so that no two units are equal."""
    supernet = Supernet(search_spaces.parse(text)).double().eval()
    generator = torch.Generator().manual_seed(0)
    for tensor in supernet.state_dict().values():
        tensor.copy_(0.4 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
    return supernet


def batch(n: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 3, 8, 8, generator=generator, dtype=torch.float64), torch.arange(n) % 5


BLOCK = "stages.0.blocks.1"


def by_reader(supernet: Supernet, importance: Sequence[Tensor]) -> dict[str, Tensor]:
    """The importance of each group by the path of the layer that reads it."""
    nodes = supernet.space.network(supernet.space.largest).nodes
    groups = elastic_channels(supernet.space)
    return {nodes[group.readers[0]].path: v for group, v in zip(groups, importance, strict=True)}


@pytest.mark.parametrize("kind", ["norm", "taylor"])
@pytest.mark.parametrize(
    "structure",
    [
        "",
        "layer_scale: 0.1\nqkv_bias: false\n",
        "relative: {kind: tables, distance: 2}\nflat_qkv_bias: true\n",
        "relative: {kind: bias}\nprefix: 0\npool: mean\n",
    ],
)
def test_sorting_keeps_the_largest_subnet(structure: str, kind: str) -> None:
    supernet = random_supernet(VIT + structure)
    space, (x, y) = supernet.space, batch()
    smaller = space.largest | {
        name: c.options[0] for name, c in space.choices.items() if c.kind in ("heads", "mlp")
    }

    groups = elastic_channels(space)

    def importance() -> list[Tensor]:
        if kind == "norm":
            return norm_importance(supernet, groups)
        return taylor_importance(supernet, groups, [(x, y)], F.cross_entropy)

    with torch.no_grad():
        before = [supernet(x, arch) for arch in (space.largest, smaller)]
    sort_units(supernet, groups, importance())
    with torch.no_grad():
        after = [supernet(x, arch) for arch in (space.largest, smaller)]
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=1e-12 * float(before[0].abs().max()))
    assert (after[1] - before[1]).abs().max() > 1e-3
    for values in importance():
        torch.testing.assert_close(values, values.sort(descending=True).values)


def test_importance_by_norms() -> None:
    supernet = random_supernet(VIT)
    found, block = by_reader(supernet, norm_importance(supernet, elastic_channels(supernet.space))), BLOCK
    qkv, bias = (supernet.get_parameter(f"{block}.attention.qkv.{name}") for name in ("weight", "bias"))
    project = supernet.get_parameter(f"{block}.attention.project.weight")
    for head in range(4):
        rows = [part * 16 + head * 4 + i for part in range(3) for i in range(4)]
        expected = (
            qkv[rows].abs().sum() + bias[rows].abs().sum() + project[:, head * 4 : head * 4 + 4].abs().sum()
        )
        assert found[f"{block}.attention.project"][head].item() == pytest.approx(expected.item())
    expand, bias = (supernet.get_parameter(f"{block}.mlp.expand.{name}") for name in ("weight", "bias"))
    project = supernet.get_parameter(f"{block}.mlp.project.weight")
    expected = expand.abs().sum(1) + bias.abs() + project.abs().sum(0)
    torch.testing.assert_close(found[f"{block}.mlp.project"], expected.detach())


def test_importance_by_first_order_changes() -> None:
    # a factor on a unit scales the columns that read it, so for one image its derivative is the sum of
    # weight times gradient over these columns
    supernet, (x, y) = random_supernet(VIT), batch()
    expected: dict[str, Tensor] = {}
    for i in range(len(x)):
        supernet.zero_grad()
        F.cross_entropy(supernet(x[i : i + 1], supernet.space.largest), y[i : i + 1]).backward()
        for path, size in [
            (f"stages.0.blocks.{b}.{part}.project", size)
            for b in range(3)
            for part, size in (("attention", 4), ("mlp", 1))  # channels of a head and of a hidden unit
        ]:
            weight = supernet.get_parameter(f"{path}.weight")
            assert weight.grad is not None
            by_unit = (weight * weight.grad).sum(0).view(-1, size).sum(1).abs().detach()
            expected[path] = expected.get(path, torch.zeros_like(by_unit)) + by_unit
    groups = elastic_channels(supernet.space)
    halves = [(x[:2], y[:2]), (x[2:], y[2:])]
    found = by_reader(supernet, taylor_importance(supernet, groups, halves, F.cross_entropy))
    assert found.keys() == expected.keys()
    for path, values in found.items():
        torch.testing.assert_close(values, expected[path])


def test_blocks_are_removed_in_the_order_of_their_importance() -> None:
    space = search_spaces.parse(VIT)
    assert isinstance(space, ViTSpace)
    calls: list[set[int]] = []
    importance = {0: 3.0, 1: 1.0, 2: 2.0}

    def loss_of(blocks: Sequence[Block]) -> float:
        names = [block.name for block in blocks]
        present = {b for b in range(3) if f"stages.0.blocks.{b}.attention" in names}
        assert present == {b for b in range(3) if f"stages.0.blocks.{b}.mlp" in names}
        assert (names[0], names[-1]) == ("stem", "head")
        calls.append(present)
        return -sum(importance[b] for b in present)

    assert rank_blocks(space, loss_of) == {"depth": [0, 2, 1]}
    assert calls == [{1, 2}, {0, 2}, {0, 1}, {2}, {0}]  # without each of three, then of the other two
    ranked = space.with_ranking({"depth": [0, 2, 1]})
    assert ranked.config.keep == (0, 2, 1)
    # positions are ranks: the second most important block becomes the most important one
    assert ranked.with_ranking({"depth": [1, 0, 2]}).config.keep == (2, 0, 1)
