import pytest
import torch

from nas.data.global_generator import seeded
from nas.tasks.classification.mix import Mix

X = torch.arange(4.0)[:, None, None, None].expand(4, 1, 8, 8).contiguous()
LABELS = torch.arange(4)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_labels_are_mixed_like_the_images(mixup: float, cutmix: float) -> None:
    mixed = False
    for seed in range(10):
        x, y = Mix(4, mixup, cutmix)(X, LABELS, seed)
        torch.testing.assert_close(y.sum(1), torch.ones(4))
        # image i has the value i everywhere, so that the mean of a mixture is the mean of its labels
        torch.testing.assert_close(x.mean((1, 2, 3)), y @ torch.arange(4.0), atol=1e-5, rtol=0)
        mixed |= bool((y.max(1).values < 0.99).any())
    assert mixed


def test_other_devices_are_not_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(seed: int) -> None:
        raise AssertionError

    monkeypatch.setattr(torch.cuda, "manual_seed_all", fail)
    monkeypatch.setattr(torch.random, "manual_seed", fail)
    with seeded(3):
        first = torch.rand(1)
    assert first == torch.rand(1, generator=torch.Generator().manual_seed(3))


def test_result_depends_on_the_seed_and_not_on_the_global_generator() -> None:
    mix = Mix(4, 0.4, 1.0)
    before = torch.random.get_rng_state()
    first, again, other = mix(X, LABELS, 1), mix(X, LABELS, 1), mix(X, LABELS, 2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[1], other[1])


def test_nothing_is_mixed_with_both_parameters_zero() -> None:
    x, y = Mix(4, 0.0, 0.0)(X, LABELS, 0)
    assert x is X
    assert y is LABELS
