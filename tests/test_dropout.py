import pytest
import torch

from nas.data.global_generator import seeded
from nas.torch_backend.dropout import Dropout
from nas.torch_backend.supernet import Supernet
from search_spaces import Arch, Space


def test_rates_of_zero_have_no_effect(tiny: Space, tiny_arch: Arch) -> None:
    supernet, x = Supernet(tiny).train(), torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(supernet(x, tiny_arch, Dropout(tiny, 0.0, 0.0)), supernet(x, tiny_arch))


def test_logits_are_the_bias_if_all_features_are_dropped(tiny: Space, tiny_arch: Arch) -> None:
    supernet, x = Supernet(tiny).train(), torch.randn(3, 1, 8, 8)
    logits = supernet(x, tiny_arch, Dropout(tiny, 1.0, 0.0))
    assert torch.equal(logits, torch.zeros(3, 3))  # the initial bias


def test_drop_connect_rates_rise_linearly_over_the_selected_stages(tiny: Space) -> None:
    # two stages of two blocks: the rates are 0, 1/4, 2/4 and 3/4 of 0.8
    assert list(Dropout(tiny, 0.0, 0.8).rates.values()) == [0.0, 0.2, 0.4, pytest.approx(0.6)]
    assert list(Dropout(tiny, 0.0, 0.8, stages=1).rates) == ["stages.1.blocks.0", "stages.1.blocks.1"]


def test_images_skip_whole_branches(tiny: Space) -> None:
    dropout = Dropout(tiny, 0.0, 0.8)
    block = next(block for block in tiny.blocks(tiny.largest) if block.branch)
    dropout.rates[block.name] = 0.5
    branch = block.branch
    assert branch is not None
    noisy = dropout(lambda node, inputs: torch.ones_like(inputs[0]), block)
    with seeded(0):
        out = noisy(branch, [torch.zeros(64, 2, 3, 3)])
    # images whose branch is computed are scaled by 1 / (1 - 0.5), so that the expectation stays 1
    per_image = out.flatten(1)
    assert set(per_image.unique().tolist()) == {0.0, 2.0}
    assert (per_image.amin(1) == per_image.amax(1)).all()
