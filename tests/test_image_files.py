"""Image files of every kind: what is read, what is refused, and that a deployer reads the same."""

import json
import pickle
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from image_kinds import SIDEWAYS, scene, write_kinds
from PIL import Image

from nas.data import Preprocess, image_file
from nas.data.augment import RandomResizedCrop
from nas.data.catalog import get
from nas.data.check_files import check_files
from nas.data.image_folder import ImageFiles
from nas.export import reference_reader
from nas.recipes.recipe import parse
from nas.training.train import train

RGB = Preprocess(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), crop_fraction=0.875)
GREY = Preprocess(mean=(0.45,), std=(0.25,), crop_fraction=0.875, interpolation="bicubic")


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_kinds(tmp_path_factory.mktemp("kinds"))


def test_every_kind_shows_the_scene(kinds: dict[str, Path]) -> None:
    grey = np.asarray(Image.fromarray(scene()).convert("L"))[..., None]
    for name, path in kinds.items():
        if name.startswith(("one_bit", "thin", "tall", "one_pixel", "odd")):
            continue
        image = image_file.read(path)
        assert (image.mode, image.size) == ("RGB", (45, 31)), name
        expected = grey if "grey" in name or "bit" in name or "int32" in name else scene()
        # 4 levels: an adaptive palette and JPEG; an image that is turned wrongly differs by 40
        assert np.abs(np.asarray(image).astype(int) - expected).mean() < 4, name
        if name.startswith(("sixteen", "int32", "exif_sixteen", "rgba", "rgb_key", "exif_png")):
            np.testing.assert_array_equal(np.asarray(image), np.broadcast_to(expected, (31, 45, 3)))


@pytest.mark.parametrize("preprocess", [RGB, GREY], ids=["RGB", "grey"])
def test_the_reader_of_the_card_gives_the_input_of_the_network(
    kinds: dict[str, Path], preprocess: Preprocess
) -> None:
    for name, path in kinds.items():
        for size in (21, 32):
            card = json.loads(json.dumps(preprocess.card(size)))
            expected = preprocess(ImageFiles([str(path)])[0], size)
            np.testing.assert_array_equal(reference_reader.network_input(str(path), card)[0], expected, name)


@pytest.mark.parametrize("orientation", SIDEWAYS)
def test_every_orientation_is_turned_upright_once(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(scene()).transpose(Image.Transpose(SIDEWAYS[orientation]))
    stored.save(tmp_path / "photo.png", exif=exif)
    image = image_file.read(tmp_path / "photo.png")
    np.testing.assert_array_equal(np.asarray(image), scene())
    np.testing.assert_array_equal(np.asarray(image_file.plain(image)), scene())


def test_images_of_a_users_own_data_set_follow_the_same_rules(kinds: dict[str, Path]) -> None:
    for name, path in kinds.items():
        with path.open("rb") as file, Image.open(file) as image:
            mode = image.mode
            np.testing.assert_array_equal(RGB(image, 24), RGB(image_file.read(path), 24), name)
            assert image.mode == mode  # theirs is left as it is


def test_thin_images_are_augmented(kinds: dict[str, Path]) -> None:
    images = [image_file.read(kinds[name]) for name in ("thin.png", "tall.png", "one_pixel.png", "rgb.jpg")]
    assert RandomResizedCrop()(images, 24, torch.Generator()).shape == (4, 3, 24, 24)


def test_a_thin_image_needs_little_memory() -> None:
    image = Image.new("RGB", (60_000, 1), (51, 102, 153))  # all of it at 256 pixels of height has 4e9 pixels
    pixels = RGB.pixels(image, 224)
    assert [set(channel.flat) for channel in pixels] == [{51}, {102}, {153}]


def test_thin_images_show_what_resizing_the_whole_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.fromarray(scene(300, 7))
    thin = RGB.pixels(image, 32)
    monkeypatch.setattr("nas.data.preprocess.THIN_RATIO", 1000)
    np.testing.assert_allclose(thin, RGB.pixels(image, 32), atol=1)  # rounded at other places


def float_image(path: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.float32)).save(path, "TIFF")


def bytes_of(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def cut_png(width: int, height: int) -> bytes:
    """A PNG file without its pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", b""))
    parts = [
        struct.pack(">I", len(x)) + name + x + struct.pack(">I", zlib.crc32(name + x)) for name, x in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty.jpg": (bytes_of(b""), "not a supported image format"),
    "page.jpg": (bytes_of(b"<html>404</html>"), "not a supported image format"),
    "cut.png": (bytes_of(cut_png(8, 8)), "truncated"),
    "bomb.png": (bytes_of(cut_png(20_000, 10_000)), "exceeds limit"),
    "script.png": (
        bytes_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "not a supported image format",
    ),
    "float.tif": (float_image, "the range of float pixels is unknown"),
    "negative.tif": (
        lambda path: Image.fromarray(np.full((2, 2), -5, np.int32)).save(path),
        r"must be within 0\.\.65535, got -5\.\.-5",
    ),
    "gone.png": (lambda path: None, "No such file or directory"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_one_line_with_the_path(tmp_path: Path, name: str) -> None:
    write, reason = BAD[name]
    write(tmp_path / name)
    with pytest.raises(
        ValueError, match=f"^cannot read the image {re.escape(str(tmp_path / name))}: .*{reason}"
    ) as e:
        ImageFiles([str(tmp_path / name)])[0]
    assert "\n" not in str(e.value)
    assert str(pickle.loads(pickle.dumps(e.value))) == str(e.value)


@pytest.mark.parametrize(
    "error", [MemoryError(), SyntaxError("broken\nchunk"), struct.error("short"), EOFError()]
)
def test_any_error_of_a_decoder_names_the_file(
    kinds: dict[str, Path], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(self: Image.Image) -> None:
        raise error

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    reason = " ".join(str(error).split()) or type(error).__name__
    with pytest.raises(ValueError, match=f"^cannot read the image .*odd.png: {reason}$"):
        image_file.read(kinds["odd.png"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 20 images each, of which none can be read."""
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(20):
            (tmp_path / "images" / name / f"{i:02}.png").write_bytes(b"no image")
    return tmp_path / "images"


def test_all_files_that_cannot_be_read_are_listed_at_once(folder: Path) -> None:
    good = [folder / "cat" / f"{i:02}.png" for i in range(20)]
    for path in good:
        Image.fromarray(scene(3, 3)).save(path)
    seen: list[tuple[str, int, int]] = []
    with pytest.raises(ValueError, match=r"^20 of 40 images cannot be read, replace or remove them: ") as e:
        check_files(get("imagefolder", folder), progress=lambda *now: seen.append(now))
    assert str(e.value).count("not a supported image format") == str(e.value).count("dog/") == 10
    assert str(e.value).endswith("; and 10 more")
    assert seen == [("check images", done, 40) for done in range(1, 41)]


def test_many_files_are_checked_only_on_request(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = get("imagefolder", folder)
    monkeypatch.setattr("nas.data.check_files.MAX_FILES", 39)
    check_files(dataset)
    check_files(dataset, False)
    with pytest.raises(ValueError, match="40 of 40 images"):
        check_files(dataset, True)
    monkeypatch.setattr("nas.data.check_files.MAX_FILES", 40)
    with pytest.raises(ValueError, match="40 of 40 images"):
        check_files(dataset)
    with pytest.raises(ValueError, match="--check-images has no effect without image files"):
        check_files(get("digits"), True)


@pytest.mark.parametrize(("largest", "warned"), [(4095, True), (4096, False)])
def test_twelve_bits_in_sixteen_are_warned_of(
    largest: int, warned: bool, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in folder.rglob("*.png"):
        Image.fromarray(np.full((3, 3), 100, dtype=np.uint16)).save(path)
    Image.fromarray(np.full((3, 3), largest, dtype=np.uint16)).save(folder / "cat" / "00.png")
    Image.fromarray(np.full((3, 3), 255, dtype=np.uint8)).save(folder / "dog" / "00.png")  # has 8 bits
    check_files(get("imagefolder", folder))
    assert ["all 39 16-bit images" in message for message in caplog.messages] == [True] * warned


def test_training_checks_the_images_before_it_makes_the_run(folder: Path, tmp_path: Path) -> None:
    recipe = parse(
        "{space: digits, epochs: 1, data: {dataset: imagefolder, batch_size: 8}}", [f"data.root={folder}"]
    )
    with pytest.raises(ValueError, match="40 of 40 images cannot be read"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=r"^cannot read the image"):
        train(recipe, tmp_path / "run", check_images=False)
