"""BN recalibration."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from conftest import sampled
from torch import Generator, Tensor

from nas import tasks
from nas.data.dataset import ImageDataset, ImageOnly, Split
from nas.data.loading import Batch
from nas.data.preprocess import Preprocess, RawImage
from nas.evaluation.calibration import DEFAULT, METHODS, Calibration, Method, recalibrate
from nas.evaluation.group import GroupEvaluation
from nas.torch_backend.static import StaticNet
from nas.torch_backend.supernet import Supernet
from search_spaces import Space

SIZE = 8
MEAN, STD = 0.5, 0.25


def _darker(images: Sequence[RawImage], resolution: int, generator: Generator) -> Tensor:
    """An augmentation whose results differ from clean images and from each other."""
    x = torch.from_numpy(np.stack([np.asarray(image) for image in images])).float()
    return x[:, None] * torch.rand(len(x), 1, 1, 1, generator=generator)


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    """90 grey images, of which no two are equal."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(90, SIZE, SIZE), dtype=np.uint8)
    split = Split(images, np.arange(90, dtype=np.int64) % 3)
    return ImageDataset(
        output_names=("a", "b", "c"),
        preprocess=Preprocess(mean=(MEAN,), std=(STD,)),
        augment=ImageOnly(_darker),
        splits={"train": split, "validation": split, "test": split},
    )


@pytest.fixture
def net(tiny: Space) -> StaticNet:
    return Supernet(tiny, zero_init_residual=False).extract(tiny.largest)


def statistics(net: StaticNet, name: str = "stem.conv") -> tuple[Tensor, Tensor]:
    return net.get_buffer(f"{name}.norm.running_mean"), net.get_buffer(f"{name}.norm.running_var")


def stem_maps(net: StaticNet, batches: Sequence[Batch]) -> list[Tensor]:
    weight = net.get_parameter("stem.conv.weight")
    with torch.no_grad():
        return [torch.conv2d(x, weight, padding=1) for x, _ in batches]


@pytest.mark.parametrize("unbiased", [True, False])
def test_each_norm_gets_the_moments_that_it_sees(
    net: StaticNet, dataset: ImageDataset, unbiased: bool
) -> None:
    ((x, y),) = sampled(dataset, 90, SIZE, 90, seed=0)
    batches = list(zip(x.split(40), y.split(40), strict=True))
    sizes = torch.tensor([40.0, 40.0, 10.0])  # so each batch counts by its images
    recalibrate(net, batches, unbiased=unbiased)
    maps = stem_maps(net, batches)
    means = torch.stack([m.mean((0, 2, 3)) for m in maps])
    variances = torch.stack([m.var((0, 2, 3), unbiased=unbiased) for m in maps])
    mean, var = statistics(net)
    torch.testing.assert_close(mean, sizes @ means / 90)
    torch.testing.assert_close(var, sizes @ variances / 90, rtol=1e-5, atol=0)  # they differ by 1/640
    assert not net.training


def test_one_batch_makes_evaluation_equal_to_training(net: StaticNet, dataset: ImageDataset) -> None:
    # both normalise with the biased moments of the very same images, in every layer
    batches = list(sampled(dataset, 90, SIZE, 90, seed=0))
    recalibrate(net, batches, unbiased=False)
    with torch.no_grad():
        evaluated = net(batches[0][0])
        trained = net.train()(batches[0][0])
    torch.testing.assert_close(evaluated, trained, rtol=1e-4, atol=1e-5)


def test_what_was_before_is_forgotten(tiny: Space, dataset: ImageDataset) -> None:
    supernet = Supernet(tiny, zero_init_residual=False)
    clean, soiled = supernet.extract(tiny.smallest), supernet.extract(tiny.smallest)
    for name, buffer in soiled.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.fill_(torch.nan)
    batches = list(sampled(dataset, 64, 6, 64, seed=0))
    recalibrate(clean, batches)
    recalibrate(soiled, batches)
    for name, buffer in clean.named_buffers():
        assert torch.equal(buffer, soiled.get_buffer(name))


def test_hooks_and_momentum_are_those_of_before(net: StaticNet, dataset: ImageDataset) -> None:
    before = [module.momentum for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    recalibrate(net, list(sampled(dataset, 30, SIZE, 30, seed=0)))
    assert not [module for module in net.modules() if module._forward_hooks]
    after = [module.momentum for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert after == before
    assert 1.0 not in after


def test_maps_of_one_pixel_work_with_any_number_of_images(net: StaticNet, dataset: ImageDataset) -> None:
    # images of 4 pixels and two strides of 2 leave maps of 1 x 1; 41 images in batches of 40 left one over
    for images in (2, 3, 41):
        recalibrate(net, sampled(dataset, images, 4, 40, seed=0))
        assert all(buffer.isfinite().all() for buffer in net.buffers())


def test_published_methods() -> None:
    # set_running_statistics of OFA: 2000 images in batches of 200, mean of (x - mean)^2;
    # AttentiveNAS: 64 batches of 256, AlphaNet's search: 32 of 256, both by torch's own batch norm
    assert METHODS["ofa"] == Method(2000, 200, unbiased=False, augmented=True)
    assert METHODS["attentivenas"] == Method(64 * 256, 256, unbiased=True, augmented=True)
    assert METHODS["alphanet"] == Method(32 * 256, 256, unbiased=True, augmented=True)
    assert not METHODS[DEFAULT].augmented


@pytest.mark.parametrize("name", METHODS)
def test_method_decides_images_batches_and_variance(tiny: Space, dataset: ImageDataset, name: str) -> None:
    method = METHODS[name]
    calibration = Calibration(method=name, seed=3)
    supernet = Supernet(tiny, zero_init_residual=False)
    evaluation = GroupEvaluation(
        supernet, dataset, tasks.get("classification"), {}, "test", calibration, "cpu"
    )
    with evaluation.engine() as engine:
        (net,) = evaluation.recalibrated([tiny.largest], engine)
    batches = list(sampled(dataset, method.images, SIZE, method.batch_size, 3, augmented=method.augmented))
    assert [len(x) for x, _ in batches] == [90]  # all that there are
    _, var = statistics(net)
    (maps,) = stem_maps(net, batches)
    torch.testing.assert_close(var, maps.var((0, 2, 3), unbiased=method.unbiased), rtol=1e-5, atol=0)


def test_augmented_images_depend_on_the_seed_alone(dataset: ImageDataset) -> None:
    def draw(seed: int, augmented: bool = True) -> Tensor:
        return torch.cat([x for x, _ in sampled(dataset, 80, SIZE, 40, seed, augmented=augmented)])

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))
    dark, clean = draw(0) * STD + MEAN, draw(0, augmented=False) * STD + MEAN
    assert (dark <= clean + 1e-6).all()  # the same images in the same order
    factor = dark.sum((1, 2, 3)) / clean.sum((1, 2, 3))
    assert len(factor.unique()) == 80  # neither a batch nor two batches share a draw


def test_keys_tell_calibrations_apart() -> None:
    assert Calibration().key == "default:512:seed0"
    assert Calibration(images=100, seed=2, method="ofa").key == "ofa:100:seed2"


def test_unknown_method_and_single_image_are_refused() -> None:
    with pytest.raises(ValueError, match="calibration images must be >= 2, got 1"):
        Calibration(images=1)
    with pytest.raises(ValueError, match="one of default, ofa, attentivenas, alphanet, got 'bignas'"):
        Calibration(method="bignas")
