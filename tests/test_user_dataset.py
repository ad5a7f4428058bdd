"""Data sets of a user's own that break a rule."""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import epoch, sampled
from PIL import Image

from nas import tasks
from nas.data import ImageDataset, ImageOnly, Preprocess, Split
from nas.data.batches import eval_batches
from nas.data.dataset import Dataset, SplitName
from nas.data.user_dataset import make_checked

IMAGES = np.zeros((6, 8, 8), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])
GOOD = ImageDataset(
    output_names=("ant", "bee", "cat"),
    preprocess=Preprocess(mean=(0.5,), std=(0.5,)),
    augment=None,
    splits={name: Split(IMAGES, LABELS) for name in ("train", "validation", "test")},
)


def make(dataset: object) -> ImageDataset:
    made = make_checked("mine:data", lambda: dataset)
    tasks.get("classification").check("mine:data", made)
    return made


def with_split(images: Any, labels: Any, name: SplitName = "validation") -> ImageDataset:
    return replace(GOOD, splits={**GOOD.splits, name: Split(images, labels)})


def raises(*_: object) -> Any:
    raise RuntimeError("disk\nlost")


class Lazy(list[Any]):
    """Images that are made when they are asked for; a callable among them is called."""

    def __getitem__(self, index: Any) -> Any:
        image = super().__getitem__(index)
        return image() if callable(image) else image


@pytest.mark.parametrize("kind", [np.int32, np.uint8, np.uint64, np.int64, list, torch.tensor])
def test_integers_of_any_kind_are_labels(kind: Any) -> None:
    labels: Any = (
        LABELS.astype(kind) if isinstance(kind, type) and issubclass(kind, np.generic) else kind(LABELS)
    )
    dataset = make(replace(with_split(IMAGES, labels), output_names=["ant", "bee", "cat"]))  # type: ignore[arg-type]
    assert isinstance(dataset, Dataset)
    assert dataset.output_names == GOOD.output_names
    assert dataset.split("validation").targets.dtype == np.int64
    np.testing.assert_array_equal(dataset.split("validation").targets, LABELS)
    assert dataset.split("validation") is dataset.split("validation")


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (None, "must be Dataset, but has no augment, output_names"),
        (with_split(IMAGES, LABELS + 1), r"split 'validation' must have labels from 0 to 2.* image 2 has 3"),
        (
            with_split(IMAGES, LABELS - 1, "test"),
            r"split 'test' must .* from 0 to 2.*image 0 has -1",
        ),
        (
            with_split(IMAGES, LABELS.astype(float)),
            r"integers of shape \(n,\) as labels, got float32",
        ),
        (with_split(IMAGES, LABELS > 0), "numbers as targets, got bool"),
        (with_split(IMAGES, LABELS[:, None]), r"integers .* got int64 of shape \(6, 1\)"),
        (with_split(IMAGES[:0], LABELS[:0]), "must have images and one target for each, got 0 images"),
        (with_split(IMAGES / 255, LABELS), r"uint8 array .*got float64 of shape \(8, 8\)"),
        (
            with_split(np.zeros((6, 3, 8, 8), np.uint8), LABELS),
            r"uint8 array .*got uint8 of shape \(3, 8, 8\)",
        ),
        (with_split(np.zeros((6, 8), np.uint8), LABELS), r"uint8 array .*got uint8 of shape \(8,\)"),
        (with_split(np.zeros((6, 0, 8), np.uint8), LABELS), r"uint8 array .*got uint8 of shape \(0, 8\)"),
        (replace(GOOD, splits={**GOOD.splits, "train": (IMAGES, LABELS)}), "must be a Split, got tuple"),  # type: ignore[dict-item]
        (replace(GOOD, splits={"train": GOOD.split("train")}), "failed with KeyError: 'validation'"),
        (replace(GOOD, output_names=("ant", "bee", "ant")), "must name each output once, it repeats ant"),
        (replace(GOOD, output_names="abc"), "a tuple of names as `output_names`, got 'abc'"),  # type: ignore[arg-type]
        (replace(GOOD, output_names=(0, 1, 2)), r"a tuple of names as `output_names`, got \(0, 1, 2\)"),  # type: ignore[arg-type]
        (replace(GOOD, output_names=("ant",)), "at least two classes as `output_names`, got 1"),
        (replace(GOOD, output_names=("ant", "bee")), "labels from 0 to 1"),
        (replace(GOOD, preprocess=None), "must have a Preprocess as `preprocess`, got None"),  # type: ignore[arg-type]
        (replace(GOOD, augment=[1]), "None or a callable as `augment`, got list"),  # type: ignore[arg-type]
    ],
)
def test_values_that_break_a_rule_are_named_in_one_line(dataset: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make(dataset)
    assert "'mine:data'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_factory_that_raises_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"^the data set .* failed with RuntimeError: disk lost$"):
        make_checked("mine:data", raises)
    with pytest.raises(ValueError, match=r"^the data set .* failed with SystemExit: no license$"):
        make_checked("mine:data", lambda: sys.exit("no license"))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (raises, "RuntimeError: disk lost"),
        (lambda: None, "must be a Pillow image or a uint8 array .*, got None"),
        (lambda: IMAGES[0] / 255, r"got float64 of shape \(8, 8\)"),
        (lambda: torch.zeros(3, 8, 8, dtype=torch.uint8), r"got torch\.uint8 of shape \(3, 8, 8\)"),
    ],
)
def test_images_are_checked_when_they_are_made(image: Callable[[], object], message: str) -> None:
    images = Lazy([Image.new("L", (8, 8)), *IMAGES[1:5], image])
    dataset = make(with_split(images, LABELS, "train"))
    reads: tuple[Callable[[], object], ...] = (
        lambda: list(sampled(dataset, 6, 8, 6, 0)),
        lambda: epoch(dataset, [8], 6, torch.Generator()),
    )
    for read in reads:
        with pytest.raises(ValueError, match=f"'mine:data', split 'train', image 5.* {message}") as caught:
            read()
        assert "\n" not in str(caught.value)
    assert len(list(eval_batches(make(with_split(images[:5], LABELS[:5])), "validation", 8, 2))) == 3


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (raises, "the `augment` of the data set 'mine:data' failed with RuntimeError: disk lost"),
        (lambda *_: (None, None), r"uint8 or floats of shape \(6, 1, 8, 8\), got None"),
        (lambda *_: None, "failed with TypeError"),
        (
            lambda *_: (torch.zeros(6, 1, 8, 8), LABELS),
            "a target for each of 6 images, got int64",
        ),
        (ImageOnly(lambda *_: torch.zeros(6, 3, 8, 8)), r"got torch\.float32 of shape \(6, 3, 8, 8\)"),
        (ImageOnly(lambda *_: torch.zeros(6, 1, 8, 8, dtype=torch.int8)), r"got torch\.int8 of shape"),
        (lambda *_: (np.zeros((6, 1, 8, 8)), LABELS), r"got float64 of shape"),
    ],
)
def test_augmentation_is_checked_when_it_is_used(augment: Any, message: str) -> None:
    dataset = make(replace(GOOD, augment=augment))
    with pytest.raises(ValueError, match=message):
        epoch(dataset, [8], 6, torch.Generator())
