"""From one image to pixels: preprocessing and augmentation."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from nas.data import ImageDataset, Preprocess
from nas.data.augment import TRIES, RandomAffine, RandomCropFlip, RandomResizedCrop
from nas.data.catalog import get

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


def test_pixels_at_the_native_size_are_only_normalised() -> None:
    image = noise(32, 32, 3)
    expected = (image.transpose(2, 0, 1) / 255 - np.array(RGB.mean)[:, None, None]) / np.array(RGB.std)[
        :, None, None
    ]
    np.testing.assert_allclose(RGB(image, 32), expected, atol=1e-6)
    assert RGB(image, 32).dtype == np.float32


def test_the_crop_is_the_centre() -> None:
    image = noise(32, 64, 3)
    np.testing.assert_array_equal(RGB.pixels(image, 32), image[:, 16:48].transpose(2, 0, 1))
    np.testing.assert_array_equal(
        RGB.pixels(image.transpose(1, 0, 2), 32), image.transpose(1, 0, 2)[16:48].transpose(2, 0, 1)
    )


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 64), st.sampled_from([0.7, 0.875, 0.9, 1.0]))
def test_any_image_fills_any_resolution(width: int, height: int, resolution: int, crop: float) -> None:
    preprocess = Preprocess(mean=(0.0,), std=(1.0,), crop_fraction=crop)
    image = np.full((height, width), 51, dtype=np.uint8)  # 51 / 255 = 0.2
    assert preprocess.resize_to(resolution) >= resolution
    np.testing.assert_allclose(
        preprocess(image, resolution), np.full((1, resolution, resolution), 0.2), atol=1e-6
    )


def test_the_resize_rule_of_224_is_the_usual_one() -> None:
    assert Preprocess(mean=(0.0,), std=(1.0,), crop_fraction=0.875).resize_to(224) == 256


def test_the_card_alone_reproduces_the_input() -> None:
    preprocess = Preprocess(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), crop_fraction=0.875)
    image = Image.fromarray(noise(50, 77, 3))
    card = json.loads(json.dumps(preprocess.card(28)))

    assert card["channel_order"] == "RGB"
    side, crop = card["resize_shorter_side_to"], card["center_crop"]
    resized = image.resize((side * 77 // 50, side), Image.Resampling[card["interpolation"].upper()])
    left, top = (resized.width - crop) // 2, (resized.height - crop) // 2
    pixels = np.asarray(resized.crop((left, top, left + crop, top + crop)))
    x = ((pixels / card["divide_by"] - card["mean"]) / card["std"]).transpose(2, 0, 1)
    np.testing.assert_allclose(preprocess(image, 28), x, atol=1e-6)


def test_colour_images_become_grey_and_grey_ones_colour() -> None:
    grey = Preprocess(mean=(0.0,), std=(1.0,))
    assert grey(noise(8, 8, 3), 8).shape == (1, 8, 8)
    red, green, blue = RGB.pixels(noise(8, 8), 8)
    assert np.array_equal(red, green)
    assert np.array_equal(red, blue)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": (0.5, 0.5)}, "1 or 3 numbers"),
        ({"std": (0.0,)}, "std be above 0"),
        ({"crop_fraction": 0.0}, "above 0 and at most 1"),
        ({"interpolation": "best"}, "one of .*bilinear"),
    ],
)
def test_wrong_preprocessing_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocess(**({"mean": (0.5,), "std": (0.5,)} | change))  # type: ignore[arg-type]


def test_preprocessing_does_not_import_torch() -> None:
    code = "import sys, nas.data.preprocess; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_affine_without_range_is_clean_preprocessing_up_to_rounding(digits: ImageDataset) -> None:
    train = digits.split("train")
    indices = np.arange(50)
    augmented = RandomAffine(shift_pixels=0)(train.take(indices), 24, seeded())
    clean = train.pixels(indices, digits.preprocess, 24)
    assert np.abs(augmented.numpy() - clean).max() <= 1.0  # Pillow rounds after each of its two passes


def test_every_image_has_its_own_shift_within_the_bound() -> None:
    dot = np.zeros((9, 9), dtype=np.uint8)
    dot[4, 4] = 255
    x = RandomAffine(shift_pixels=2)([dot] * 200, 9, seeded())[:, 0]
    grid = torch.arange(9.0) - 4
    mass = x.sum((1, 2))
    shifts = torch.stack([(x.sum(1) * grid).sum(1) / mass, (x.sum(2) * grid).sum(1) / mass], 1)
    assert shifts.abs().max() <= 2 + 1e-4
    assert len(torch.unique(shifts.round(decimals=2), dim=0)) > 150
    assert shifts.abs().max() > 1.8  # 400 draws from -2..2: all within 1.8 has probability 0.9^400


def test_rotation_and_scale_move_the_corner_and_keep_the_centre() -> None:
    image = np.full((9, 9), 255, dtype=np.uint8)
    for augment in (RandomAffine(0, rotate_degrees=45), RandomAffine(0, scale=0.5)):
        x = augment([image] * 20, 9, seeded())
        np.testing.assert_allclose(x[:, 0, 4, 4], 255, rtol=1e-5)
        assert (x[:, 0, 0, 0] < 250).any()


def test_crop_and_flip_show_a_window_of_the_padded_image() -> None:
    images = [noise(5, 5, 3, seed=i) for i in range(40)]
    out = RandomCropFlip(padding=2)(images, 5, seeded()).numpy()
    seen = set()
    for image, variant in zip(images, out, strict=True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0))).transpose(2, 0, 1)
        windows = {
            (top, left, step): padded[:, top : top + 5, left : left + 5][:, :, ::step]
            for top in range(5)
            for left in range(5)
            for step in (1, -1)
        }
        matches = {where for where, window in windows.items() if np.array_equal(window, variant)}
        assert matches
        seen |= matches
    assert {step for _, _, step in seen} == {1, -1}
    assert len({(top, left) for top, left, _ in seen}) > 10


def test_crop_and_flip_follow_the_resolution() -> None:
    assert RandomCropFlip()([noise(32, 32, 3)] * 3, 24, seeded()).shape == (3, 3, 24, 24)


def test_resized_crop_of_the_whole_area_is_the_image_or_its_mirror() -> None:
    image = noise(16, 16, 3)
    out = RandomResizedCrop(min_area=1.0)([Image.fromarray(image)] * 30, 16, seeded()).numpy()
    plain, mirror = image.transpose(2, 0, 1), image[:, ::-1].transpose(2, 0, 1)
    kinds = [(np.array_equal(x, plain), np.array_equal(x, mirror)) for x in out]
    assert (True, False) in kinds
    assert (False, True) in kinds


@pytest.mark.parametrize(
    "augment",
    [RandomAffine(1, 10, 0.1), RandomCropFlip(), RandomResizedCrop(brightness=0.1, saturation=0.5)],
)
def test_augmentation_draws_from_the_generator_alone(
    augment: RandomAffine | RandomCropFlip | RandomResizedCrop,
) -> None:
    images = [noise(20, 20, 3, seed=i) for i in range(4)]
    before = torch.get_rng_state()
    first, again, other = (augment(images, 16, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())
    resized_by_torch = isinstance(augment, RandomAffine | RandomCropFlip)
    assert first.dtype == (torch.float32 if resized_by_torch else torch.uint8)
    assert first.min() >= 0
    assert first.max() <= 255


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 99))
def test_parts_have_the_areas_and_aspect_ratios_of_their_ranges(width: int, height: int, seed: int) -> None:
    augment = RandomResizedCrop(min_area=0.25)
    image = Image.new("L", (width, height))
    shapes = torch.rand((TRIES, 2), generator=seeded(seed)).tolist()
    part = augment._size(image, shapes)
    assert 1 <= part[0] <= width
    assert 1 <= part[1] <= height
    # rounding changes each side by at most a half
    assert (part[0] + 0.5) / max(part[1] - 0.5, 0.5) >= 3 / 4
    assert (part[1] + 0.5) / max(part[0] - 0.5, 0.5) >= 3 / 4
    if 4 / 5 < width / height < 5 / 4 and min(width, height) > 20:  # otherwise, few sizes fit
        assert 0.2 < part[0] * part[1] / (width * height) <= 1
