import pytest
import torch

from nas.data.global_generator import seeded
from nas.torch_backend.dropout import Dropout
from nas.torch_backend.supernet import Supernet
from search_spaces import Arch, Space


def test_no_noise_changes_nothing(tiny: Space, tiny_arch: Arch) -> None:
    supernet, x = Supernet(tiny).train(), torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(supernet(x, tiny_arch, Dropout(tiny, 0.0, 0.0)), supernet(x, tiny_arch))


def test_all_features_dropped_leave_the_bias(tiny: Space, tiny_arch: Arch) -> None:
    supernet, x = Supernet(tiny).train(), torch.randn(3, 1, 8, 8)
    logits = supernet(x, tiny_arch, Dropout(tiny, 1.0, 0.0))
    assert torch.equal(logits, torch.zeros(3, 3))  # the initial bias


def test_chance_rises_along_the_network_and_only_at_its_end(tiny: Space) -> None:
    # two stages of two blocks: rates of 0, 1/4, 2/4 and 3/4 of the last one's
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
    # kept images are scaled by 1 / (1 - 0.5), so that the expectation stays 1
    per_image = out.flatten(1)
    assert set(per_image.unique().tolist()) == {0.0, 2.0}
    assert (per_image.amin(1) == per_image.amax(1)).all()
