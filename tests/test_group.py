"""Groups of subnets that read each image together."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nas import tasks
from nas.data.augment import RandomResizedCrop
from nas.data.dataset import ImageDataset, ImageOnly, Split
from nas.data.image_folder import ImageFiles
from nas.data.preprocess import Preprocess, RawImage
from nas.evaluation import engine, evaluate, group
from nas.evaluation.archive import Archive
from nas.evaluation.calibration import Calibration
from nas.evaluation.evaluate import Evaluator, make_groups
from nas.evaluation.moments import channel_moments, merge_moments
from nas.evaluation.workers import Threads
from nas.tasks.classification.metrics import METRICS
from nas.tasks.metrics import Accumulator, MeanMetric, Metric
from nas.torch_backend.folded import FoldedNet
from nas.torch_backend.supernet import Supernet
from search_spaces import Arch, Space

N_IMAGES = 20


@dataclass(frozen=True, eq=False)
class Photos(Sequence[RawImage]):
    """Images that count how often each is opened."""

    opened: Counter[int] = field(default_factory=Counter)

    def __len__(self) -> int:
        return N_IMAGES

    def __getitem__(self, index: int) -> Image.Image:  # type: ignore[override]  # no slices
        self.opened[int(index)] += 1
        rng = np.random.default_rng(int(index))
        return Image.fromarray(rng.integers(0, 256, (14, 12), dtype=np.uint8))


def dataset_of(images: Sequence[RawImage]) -> ImageDataset:
    split = Split(images, np.arange(N_IMAGES, dtype=np.int64) % 3)
    return ImageDataset(
        output_names=("a", "b", "c"),
        preprocess=Preprocess(mean=(0.5,), std=(0.25,)),
        augment=ImageOnly(RandomResizedCrop()),
        splits={"train": split, "validation": split, "test": split},
    )


@pytest.fixture(scope="module")
def supernet(tiny: Space) -> Supernet:
    """With logits of about 1 and running statistics that differ from the defaults."""
    supernet = Supernet(tiny, zero_init_residual=False).eval()
    with torch.no_grad():
        supernet.classifier.get_parameter("weight").mul_(100)
        for name, tensor in supernet.named_buffers():
            tensor.copy_(torch.rand(tensor.shape) + ("var" in name))
    return supernet


@pytest.fixture
def archs(supernet: Supernet) -> list[Arch]:
    space = supernet.space
    random = space.decode(space.sample(np.random.default_rng(0), 4))
    return list(dict.fromkeys([space.smallest, space.largest, *random]))


def make(
    supernet: Supernet,
    folder: Path,
    images: Sequence[RawImage] | None = None,
    metrics: dict[str, Metric] | None = None,
    **options: str,
) -> Evaluator:
    return Evaluator(
        supernet,
        dataset_of(images or Photos()),
        tasks.get("classification"),
        Archive(folder / "archive.sqlite"),
        metrics or {name: METRICS[name] for name in ("cross_entropy", "top1")},
        calibration=Calibration(images=12),
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("augmented", [False, True])
def test_each_image_is_decoded_once_in_each_pass(
    supernet: Supernet, archs: list[Arch], tmp_path: Path, augmented: bool
) -> None:
    photos = Photos()
    evaluator = Evaluator(
        supernet,
        dataset_of(photos),
        tasks.get("classification"),
        Archive(tmp_path / "archive.sqlite"),
        {"top1": METRICS["top1"]},
        calibration=Calibration(images=12, method="ofa" if augmented else "default"),
    )
    assert {arch["resolution"] for arch in archs} == {6, 8}
    evaluator(archs, "search")
    # 12 of the 20 images for the recalibration, and all of them for the evaluation
    assert sorted(photos.opened.values()) == [1] * 8 + [2] * 12


def test_metrics_do_not_depend_on_groups_threads_and_memory(
    supernet: Supernet, archs: list[Arch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archs = archs[:3]
    together = make(supernet, tmp_path)(archs, "search", workers=Threads(2))
    monkeypatch.setattr(group, "RECALIBRATION_BYTES", 0)  # one subnet at a time, in several threads
    (tmp_path / "archive.sqlite").unlink()
    evaluator = make(supernet, tmp_path)
    assert [evaluator([arch], "search", workers=Threads(3))[0] for arch in archs] == together
    (tmp_path / "archive.sqlite").unlink()
    monkeypatch.setattr(engine, "CPU_TENSOR_BYTES", 1)  # one image at a time
    monkeypatch.setattr(group, "CHUNK", 7)
    in_parts = make(supernet, tmp_path)(archs, "search", workers=Threads(2))
    for few, many in zip(in_parts, together, strict=True):
        assert few == pytest.approx(many, abs=1e-5)


def test_subnets_without_an_error_are_stored(supernet: Supernet, archs: list[Arch], tmp_path: Path) -> None:
    @dataclass
    class Failing:
        """Fails at every third accumulator, that of a third of the subnets."""

        made: int = 0
        name = "failing"
        direction = "min"
        unit = ""

        def accumulator(self) -> Accumulator:
            self.made += 1
            function = _broken if self.made % 3 == 0 else torch.ones_like
            return MeanMetric("failing", "min", "", lambda outputs, targets: function(outputs)).accumulator()

    evaluator = make(supernet, tmp_path, metrics={"failing": Failing()})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="the metric 'failing' failed with RuntimeError: broken"):
        evaluator(archs, "search")
    assert len(evaluator.archive.frame()) == len(archs) - len(archs) // 3


def _broken(outputs: Tensor) -> Tensor:
    raise RuntimeError("broken")


def test_a_deleted_image_loses_one_group(
    supernet: Supernet, archs: list[Arch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(tmp_path / f"{i}.png") for i in range(N_IMAGES)]
    for i, path in enumerate(paths):
        Photos()[i].save(path)
    evaluator = make(supernet, tmp_path, ImageFiles(paths, channels=1))
    monkeypatch.setattr(evaluate, "GROUP", 2)

    def delete(what: str, done: int, total: int) -> None:
        Path(paths[3]).unlink(missing_ok=True)

    with pytest.raises(ValueError, match=r"cannot read the image .*3\.png: No such file or directory$"):
        evaluator(archs, "search", progress=delete)
    assert len(evaluator.archive.frame()) == 2


def test_other_precisions_are_checked_and_stored_separately(
    supernet: Supernet, archs: list[Arch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "PRECISION_TOLERANCE", 0.1)
    evaluator = make(supernet, tmp_path, accelerator="cpu", precision="bf16-mixed")
    low = evaluator(archs[:2], "search")
    full = make(supernet, tmp_path, accelerator="cpu")(archs[:2], "search")
    for a, b in zip(low, full, strict=True):
        assert a["cross_entropy"] == pytest.approx(b["cross_entropy"], rel=0.1)
        assert a["cross_entropy"] != b["cross_entropy"]
    assert set(evaluator.archive.frame()["calibration"]) == {
        "default:12:seed0",
        "default:12:seed0:bf16-mixed",
    }
    monkeypatch.setattr(evaluate, "PRECISION_TOLERANCE", 0.0)
    fresh = make(supernet, tmp_path, accelerator="cpu", precision="bf16-mixed")
    for _ in range(2):
        with pytest.raises(ValueError, match="bf16-mixed must change cross_entropy by at most 0, got"):
            fresh(archs[2:], "search")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accelerator": "tpu"}, "accelerator must be one of auto, cpu, cuda, mps, got 'tpu'"),
        ({"precision": "fp8"}, "precision must be one of 32-true, bf16-mixed, 16-mixed, got 'fp8'"),
        ({"accelerator": "cpu", "precision": "16-mixed"}, "precision 16-mixed needs a GPU, got cpu"),
    ],
)
def test_impossible_computations_are_refused(
    supernet: Supernet, archs: list[Arch], tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(supernet, tmp_path, **options)(archs, "search")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_metrics_on_a_gpu_are_those_on_the_cpu(
    supernet: Supernet, archs: list[Arch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.setattr(evaluate, "PRECISION_TOLERANCE", 0.1)  # one of 20 images is 0.05 of the accuracy
    on_cpu = make(supernet, tmp_path, accelerator="cpu")(archs, "search")
    (tmp_path / "archive.sqlite").unlink()
    on_gpu = make(supernet, tmp_path, accelerator="cuda", precision=precision)(archs, "search")
    for a, b in zip(on_cpu, on_gpu, strict=True):
        tolerance = 1e-4 if precision == "32-true" else 0.02
        assert a["cross_entropy"] == pytest.approx(b["cross_entropy"], rel=tolerance)


# ---------------------------------------------------------------------- parts


def test_groups_hold_each_subnet_once(tiny: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    archs = tiny.decode(np.unique(tiny.sample(np.random.default_rng(0), 60), axis=0))
    for parallel in (1, 2, 7):
        groups = make_groups(tiny, archs, parallel)
        assert sorted(arch.id for members in groups for arch in members) == sorted(a.id for a in archs)
        assert len(groups) >= min(parallel, len(archs))
        assert max(map(len, groups)) <= evaluate.GROUP
        assert max(map(len, groups)) - min(map(len, groups)) <= 1
    assert make_groups(tiny, [], 3) == []
    sizes = [arch["resolution"] for members in make_groups(tiny, archs) for arch in members]
    assert sizes == sorted(arch["resolution"] for arch in archs)
    weights = 4 * sum(map(tiny.params, archs))
    monkeypatch.setattr(evaluate, "GROUP_BYTES", weights // 20)
    assert len(make_groups(tiny, archs)) >= 20


@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_moments_of_parts_are_those_of_the_whole(mean: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (
        torch.randn(12, 3, 40, 30, generator=generator) + mean
    )  # 14,400 values: more than torch may add at once
    expected = x.double().transpose(0, 1).flatten(1)
    for layout in (torch.contiguous_format, torch.channels_last):
        parts = [channel_moments(part.contiguous(memory_format=layout)) for part in x.split(5)]
        found = merge_moments(parts)
        assert found.n == 14_400
        torch.testing.assert_close(found.mean, expected.mean(1), rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(found.var, expected.var(1, correction=0), rtol=2e-6, atol=0)


def test_folded_networks_give_the_outputs_of_static_ones(space: Space) -> None:
    generator = torch.Generator().manual_seed(0)
    supernet = Supernet(space, zero_init_residual=False).eval()
    with torch.no_grad():
        for name, tensor in supernet.named_buffers():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + ("var" in name))
    for arch in (space.smallest, space.largest):
        net = supernet.extract(arch).double()
        size = space.image_size(arch)
        images = torch.randn(2, space.config.channels, size, size, generator=generator)
        before = images.clone()
        outputs = FoldedNet(supernet.extract(arch))(images)
        assert torch.equal(images, before)
        with torch.no_grad():
            expected = net(images.double())
        torch.testing.assert_close(
            outputs.double(), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())
        )
