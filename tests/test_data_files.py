"""Data sets that a user brings as files: CIFAR, Fashion-MNIST and folders of images."""

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import epoch
from idx_files import write_fashion_mnist
from numpy.typing import NDArray
from PIL import Image

from nas.data import Split, SplitName, cifar, fashion_mnist, image_folder
from nas.data.batches import eval_batches
from nas.data.catalog import get, get_for_imported

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def cifar_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-10's files with 20 images in each; their checksums are not the real ones and are not checked."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for seed, name in enumerate(names):
        content = {"data": noise(20, 3072, seed=seed), "labels": [i % 10 for i in range(20)]}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5: Path(path).is_file())
    monkeypatch.setattr(cifar, "VALIDATION", 30)
    return tmp_path


def test_cifar_holds_validation_out_of_train_and_keeps_the_official_test(cifar_root: Path) -> None:
    dataset = get("cifar10", cifar_root)
    assert dataset.output_names == tuple("abcdefghij")
    assert [np.bincount(dataset.split(name).targets).tolist() for name in SPLITS] == [
        [7] * 10,
        [3] * 10,
        [2] * 10,
    ]
    planes = noise(20, 3072, seed=5)[0].reshape(3, 32, 32)  # the first test image: red, green, blue plane
    x, _ = next(eval_batches(dataset, "test", 32, 1))
    np.testing.assert_array_equal(x[0].numpy(), dataset.preprocess.normalize(planes))
    x, y = epoch(dataset, [32], 16, seeded())[0]
    assert x.shape == (16, 3, 32, 32)
    assert y.dtype == torch.int64


def test_missing_cifar_files_are_named(cifar_root: Path) -> None:
    (cifar_root / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(ValueError, match=r"CIFAR10: unpack cifar-10-python\.tar\.gz .*cifar-10-batches-py"):
        get("cifar10", cifar_root)
    with pytest.raises(ValueError, match=r"CIFAR100: unpack cifar-100-python\.tar\.gz .*cifar-100-python"):
        get("cifar100", cifar_root)
    with pytest.raises(ValueError, match="CIFAR10 needs a data root"):
        get("cifar10")


def test_cifar_files_with_wrong_checksums_are_refused_and_not_read(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(ValueError, match="does not contain the intact files of CIFAR10"):
        get("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("layout", "gzipped"), [("", False), ("FashionMNIST/raw", False), ("fashion-mnist", True)]
)
def test_fashion_mnist_is_found_in_each_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, gzipped: bool
) -> None:
    monkeypatch.setattr(fashion_mnist, "VALIDATION", 30)
    write_fashion_mnist(tmp_path / layout, n_train=100, n_test=20, gzipped=gzipped)
    dataset = get("fashion-mnist", tmp_path)
    counts = [np.bincount(dataset.split(name).targets).tolist() for name in SPLITS]
    assert counts == [[7] * 10, [3] * 10, [2] * 10]  # labels are 0, 1, ..., 9, 0, ... in each file
    x, y = next(eval_batches(dataset, "test", 28, 20))
    assert y.tolist() == [*range(10)] * 2
    assert x.shape == (20, 1, 28, 28)
    x, _ = epoch(dataset, [20], 16, seeded())[0]
    assert x.shape == (16, 1, 20, 20)
    other = get("fashion-mnist", tmp_path, split_seed=1)
    assert other.split("validation").targets.tolist() != dataset.split("validation").targets.tolist()


def test_missing_and_damaged_fashion_mnist_files_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"fashion-mnist needs a data root .*dataset-fashion-mnist"):
        get("fashion-mnist")
    with pytest.raises(ValueError, match=r"does not contain train-images-idx3-ubyte.*put train-images"):
        get("fashion-mnist", tmp_path)
    write_fashion_mnist(tmp_path, n_train=100, n_test=20)
    message = "must have more training images than the 5000 of the validation split, got 100: "
    with pytest.raises(ValueError, match=message):
        get("fashion-mnist", tmp_path)
    monkeypatch.setattr(fashion_mnist, "VALIDATION", 30)
    images, labels = (tmp_path / f"t10k-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1"))
    intact, intact_labels = images.read_bytes(), labels.read_bytes()
    small = intact[:8] + bytes([0, 0, 0, 14, 0, 0, 0, 56]) + intact[16:]  # 14x56 pixels
    for content in (b"", intact[:5], intact[:-1], intact + b"x", b"<html>" + intact):
        images.write_bytes(content)
        with pytest.raises(ValueError, match="t10k-images-idx3-ubyte is damaged or not an IDX file: put"):
            get("fashion-mnist", tmp_path)
    images.write_bytes(small)
    with pytest.raises(ValueError, match="images of 28x28 pixels, got images of 14x56"):
        get("fashion-mnist", tmp_path)
    images.unlink()
    packed = gzip.compress(intact)
    for content in (packed[:-20], packed[:100] + b"damaged" + packed[107:], b"not gzipped"):
        images.with_name(f"{images.name}.gz").write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot read .*t10k-images-idx3-ubyte\.gz .*: put"):
            get("fashion-mnist", tmp_path)
    images.write_bytes(intact)
    labels.write_bytes(intact_labels[:-1] + bytes([10]))
    with pytest.raises(ValueError, match="labels below 10, got 10"):
        get("fashion-mnist", tmp_path)
    labels.write_bytes(intact_labels[:7] + bytes([19]) + intact_labels[8:-1])
    with pytest.raises(ValueError, match=r"one label for each of the 20 images .*, got 19"):
        get("fashion-mnist", tmp_path)


def write_images(folder: Path, n: int, colour: int = 100) -> None:
    folder.mkdir(parents=True)
    for i in range(n):
        Image.new("RGB", (40 + i, 30), (colour, i, 0)).save(folder / f"{i}.png")


def paths(split: Split) -> set[str]:
    assert isinstance(split.images, image_folder.ImageFiles)
    return set(split.images.paths)


def test_one_folder_is_split_80_10_10(tmp_path: Path) -> None:
    write_images(tmp_path / "cat", 40)
    write_images(tmp_path / "dog", 20, colour=200)
    dataset = get("imagefolder", tmp_path)
    assert dataset.output_names == ("cat", "dog")
    counts = np.array([np.bincount(dataset.split(name).targets) for name in SPLITS])
    assert counts.sum(axis=0).tolist() == [40, 20]
    assert counts.min() >= 1
    assert 36 <= counts[0].sum() <= 57  # 48 on average, standard deviation sqrt(60 · 0.8 · 0.2) = 3.1
    assert len(set.union(*(paths(dataset.split(name)) for name in SPLITS))) == 60

    x, y = next(eval_batches(dataset, "validation", 28, 6))
    assert len(y) == min(6, counts[1].sum())
    red = np.where(y.numpy() == 0, 100, 200) / 255
    expected = (red - dataset.preprocess.mean[0]) / dataset.preprocess.std[0]
    np.testing.assert_allclose(x[:, 0, 14, 14], expected, atol=1e-5)
    x, _ = epoch(dataset, [28], 16, seeded(), workers=1)[0]
    assert x.shape == (16, 3, 28, 28)


def test_imagenet_layout_tests_on_val_and_holds_a_tenth_of_train_out(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        write_images(tmp_path / "train" / name, 20)
        write_images(tmp_path / "val" / name, 3)
    dataset = get("imagefolder", tmp_path)
    train, validation, test = (dataset.split(name) for name in SPLITS)
    assert np.bincount(test.targets).tolist() == [3, 3]
    assert (np.bincount(train.targets) + np.bincount(validation.targets)).tolist() == [20, 20]
    assert len(train) > 2 * len(validation) > 0
    assert not paths(train) & paths(validation)
    assert all("/val/" in path for path in paths(test))


def test_imported_weights_are_judged_on_images_of_val_alone(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        write_images(tmp_path / "train" / name, 5)
        write_images(tmp_path / "val" / name, 6)
    dataset = get_for_imported("imagefolder", tmp_path, 0)
    train, validation, test = (dataset.split(name) for name in SPLITS)
    assert [np.bincount(s.targets).tolist() for s in (train, validation, test)] == [[5, 5], [3, 3], [3, 3]]
    assert not paths(validation) & paths(test)
    assert all("/val/" in path for path in paths(validation) | paths(test))
    names = image_folder.file_names(validation, tmp_path)
    assert names == sorted(names)
    assert {str(tmp_path / name) for name in names} == paths(validation)
    again, other = (get_for_imported("imagefolder", tmp_path, seed) for seed in (0, 1))
    assert paths(again.split("validation")) == paths(validation) != paths(other.split("validation"))


def test_number_of_images_that_steer_a_search_with_imported_weights(tmp_path: Path) -> None:
    assert image_folder.MAX_VALIDATION == 10_000
    for folder in ("train", "val"):
        write_images(tmp_path / folder / "cat", 9)
    for asked, got in ((2, 2), (5, 4), (10_000, 4)):  # at most half of nine
        dataset = get_for_imported("imagefolder", tmp_path, 0, validation_images=asked)
        assert [len(dataset.split(name)) for name in SPLITS] == [9, got, 9 - got]


def test_class_list_maps_folders_to_labels(tmp_path: Path) -> None:
    for folder in ("train", "val"):
        for name in ("cat", "dog"):
            write_images(tmp_path / folder / name, 4)
    classes = ["zebra", "dog", "ant", "cat"]
    dataset = get_for_imported("imagefolder", tmp_path, 0, classes=classes)
    assert dataset.output_names == tuple(classes)
    for name in SPLITS:
        split = dataset.split(name)
        for path, label in zip(image_folder.file_names(split, tmp_path), split.targets, strict=True):
            assert Path(path).parent.name == classes[label]
        assert np.bincount(split.targets, minlength=4).tolist() == [0, len(split) // 2, 0, len(split) // 2]
    with pytest.raises(ValueError, match="must be in the list of 2 classes, 1 are not: cat"):
        get_for_imported("imagefolder", tmp_path, 0, classes=["zebra", "dog"])


def test_imported_weights_need_images_that_they_have_not_seen(tmp_path: Path) -> None:
    write_images(tmp_path / "cat", 9)
    with pytest.raises(ValueError, match="the data root must contain the folders train and val"):
        get_for_imported("imagefolder", tmp_path, 0)
    with pytest.raises(ValueError, match=r"must be one of \[.*\] or module:object, got 'imagefolder-grey'"):
        get_for_imported("imagefolder-grey", tmp_path, 0)
    usual = get("digits")
    for split in ("train", "validation", "test"):  # the splits of a network that was trained here
        assert (get_for_imported("digits", None, 0).split(split).targets == usual.split(split).targets).all()


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        write_images(tmp_path / name, 3)
        for file in (tmp_path / name).iterdir():
            file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"cannot read the image .*\.png"):
        next(eval_batches(get("imagefolder", tmp_path), "train", 28, 1))
