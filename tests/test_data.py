"""Splits of a data set, and the batches made of them."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from conftest import epoch, sampled
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nas.data import ImageDataset, ImageOnly, Preprocess, Split, SplitName
from nas.data.augment import RandomCropFlip
from nas.data.batches import (
    batches_per_epoch,
    eval_batches,
)
from nas.data.catalog import get
from nas.data.dataset import stratified_order, stratified_split
from nas.data.loading import Batch

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
RGB = Preprocess(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


@pytest.fixture(scope="module")
def digits() -> ImageDataset:
    dataset = get("digits")
    assert isinstance(dataset, ImageDataset)
    return dataset


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def same(one: Sequence[Batch], other: Sequence[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(one, other, strict=True)
    )


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 99), st.data())
def test_every_prefix_of_a_stratified_order_holds_the_classes_in_their_shares(
    counts: list[int], seed: int, data: st.DataObject
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    order = stratified_order(labels, np.random.default_rng(seed))
    assert sorted(order) == list(range(len(labels)))

    length = data.draw(st.integers(0, len(labels)))
    taken = np.bincount(labels[order[:length]], minlength=len(counts))
    # A cut at quantile t takes t·count of a class, rounded: off by at most 1/2, on a tie by 1. Summed over
    # the classes this moves t itself by at most (number of classes) / n.
    share = np.array(counts) / len(labels)
    assert (np.abs(taken - length * share) <= 1 + len(counts) * share).all()


def test_a_stratified_split_is_a_partition_that_the_seed_draws() -> None:
    labels = np.arange(100) % 7
    parts = stratified_split(labels, (20, 30), split_seed=3)
    assert [len(part) for part in parts] == [20, 30, 50]
    assert sorted(np.concatenate(parts)) == list(range(100))
    for part, again in zip(parts, stratified_split(labels, (20, 30), split_seed=3), strict=True):
        np.testing.assert_array_equal(part, again)
    assert not np.array_equal(parts[0], stratified_split(labels, (20, 30), split_seed=4)[0])


def test_equally_large_classes_take_turns_in_a_random_order() -> None:
    labels = np.arange(40) % 4
    first = {int(labels[stratified_order(labels, np.random.default_rng(seed))[0]]) for seed in range(50)}
    assert first == {0, 1, 2, 3}


def test_digits_are_split_60_20_20_and_hold_every_image_once(digits: ImageDataset) -> None:
    assert [len(digits.split(name)) for name in SPLITS] == [897, 540, 360]
    images = np.concatenate([np.asarray(digits.split(name).images) for name in SPLITS])
    other = get("digits", split_seed=1)
    assert images.shape == (1797, 8, 8)
    assert set(np.unique(images)) <= {round(value * 255 / 16) for value in range(17)}
    for name in SPLITS:
        counts = np.bincount(digits.split(name).targets)
        assert counts.max() - counts.min() <= 0.02 * 1797  # the raw counts are 174 to 183
        assert not np.array_equal(digits.split(name).targets, other.split(name).targets)
    total = np.concatenate([np.asarray(other.split(name).images) for name in SPLITS])
    assert sorted(image.tobytes() for image in images) == sorted(image.tobytes() for image in total)


def test_a_split_needs_a_target_for_each_image() -> None:
    with pytest.raises(ValueError, match="one target per image, got 2 for 3 images"):
        Split(noise(3, 8, 8), np.zeros(2, dtype=np.int64))


def numbered(n: int, preprocess: Preprocess = RGB) -> ImageDataset:
    """A data set whose labels number the images of each split."""
    split = {name: Split(noise(n, 8, 8, 3), np.arange(n)) for name in SPLITS}
    return ImageDataset(("a",), preprocess, ImageOnly(RandomCropFlip(1)), split)


def test_an_epoch_shows_each_image_once_and_drops_the_incomplete_batch() -> None:
    dataset = numbered(23)
    batches = epoch(dataset, [8], 5, seeded())
    labels = torch.cat([y for _, y in batches]).tolist()
    assert len(batches) == batches_per_epoch(dataset, 5) == 4
    assert len(set(labels)) == len(labels) == 20
    assert labels != sorted(labels)


def test_fewer_images_than_a_batch_are_one_batch() -> None:
    dataset = numbered(3)
    ((x, y),) = epoch(dataset, [8], 5, seeded())
    assert x.shape == (3, 3, 8, 8)
    assert sorted(y.tolist()) == [0, 1, 2]
    assert batches_per_epoch(dataset, 5) == 1


def test_training_resumes_inside_an_epoch_with_the_same_batches() -> None:
    dataset = numbered(40)
    whole = epoch(dataset, [8, 16], 8, seeded())
    assert same(epoch(dataset, [8, 16], 8, seeded(), first=2), whole[2:])
    assert not same(epoch(dataset, [8, 16], 8, seeded(1)), whole)


def test_each_batch_draws_one_resolution() -> None:
    sizes = [x.shape[-1] for x, _ in epoch(numbered(200), [8, 12, 16], 4, seeded())]
    assert set(sizes) == {8, 12, 16}


def test_ranks_share_each_batch() -> None:
    dataset = numbered(24)
    whole, first, second = (
        epoch(dataset, [8, 16], 6, seeded(), rank=rank, world_size=world_size)
        for rank, world_size in ((0, 1), (0, 2), (1, 2))
    )
    for (x, y), (x0, y0), (x1, y1) in zip(whole, first, second, strict=True):
        assert sorted(y.tolist()) == sorted(y0.tolist() + y1.tolist())
        assert len(x0) == len(x1) == len(x) // 2
        assert x0.shape[-1] == x1.shape[-1]


def test_workers_make_the_same_batches() -> None:
    dataset = numbered(24)
    before = torch.get_rng_state()
    assert same(
        epoch(dataset, [8, 16], 6, seeded(), workers=2),
        epoch(dataset, [8, 16], 6, seeded()),
    )
    assert torch.equal(before, torch.get_rng_state())


def test_evaluation_sees_every_image_of_its_split_in_order_and_clean(digits: ImageDataset) -> None:
    batches = list(eval_batches(digits, "validation", 24, 100))
    split = digits.split("validation")
    assert [len(y) for _, y in batches] == [100, 100, 100, 100, 100, 40]  # 540 images
    np.testing.assert_array_equal(torch.cat([y for _, y in batches]).numpy(), split.targets)
    for x, image in zip(torch.cat([x for x, _ in batches]), split.images, strict=True):
        np.testing.assert_array_equal(x.numpy(), digits.preprocess(image, 24))
    assert same(batches, list(eval_batches(digits, "validation", 24, 100)))


def test_without_augmentation_training_sees_clean_images() -> None:
    images = noise(6, 8, 8, 3)
    splits: dict[SplitName, Split] = {"train": Split(images, np.arange(6))}
    dataset = ImageDataset(("a",), RGB, None, splits)
    ((x, y),) = epoch(dataset, [12], 6, seeded())
    for image, index in zip(x, y.tolist(), strict=True):
        np.testing.assert_array_equal(image.numpy(), RGB(images[index], 12))


def test_calibration_draws_clean_training_images_by_seed(digits: ImageDataset) -> None:
    batches = list(sampled(digits, 100, 24, 64, seed=1))
    assert [len(y) for _, y in batches] == [50, 50]
    counts = np.bincount(torch.cat([y for _, y in batches]).numpy())
    assert counts.max() - counts.min() <= 2  # classes are nearly equal in size
    train = digits.split("train").pixels(np.arange(897), digits.preprocess, 24)
    clean = {image.tobytes() for image in digits.preprocess.normalize(train)}
    assert all(image.numpy().tobytes() in clean for x, _ in batches for image in x)
    assert same(batches, list(sampled(digits, 100, 24, 64, seed=1)))
    assert not same(batches, list(sampled(digits, 100, 24, 64, seed=2)))


def test_calibration_takes_all_images_where_there_are_fewer() -> None:
    batches = sampled(numbered(7), 100, 8, 4, seed=0)
    assert sorted(torch.cat([y for _, y in batches]).tolist()) == list(range(7))


@pytest.mark.parametrize(
    ("images", "batch_size", "sizes"),
    [
        (512, 256, [256, 256]),  # whole batches stay as they are
        (257, 256, [129, 128]),
        (513, 256, [171, 171, 171]),
        (3, 2, [3]),
        (3, 256, [3]),
        (401, 200, [134, 134, 133]),
    ],
)
def test_calibration_batches_are_of_one_size(images: int, batch_size: int, sizes: list[int]) -> None:
    batches = list(sampled(numbered(images), 10_000, 2, batch_size, seed=0))
    assert [len(y) for _, y in batches] == sizes


def test_calibration_of_one_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"calibration needs >= 2 training images, got 1 \(1 in the train"):
        list(sampled(numbered(1), 512, 8, 256, seed=0))
