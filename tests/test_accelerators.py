"""Training on a GPU, and the same on the CPU and on devices without data where torch has them."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from conftest import TINY_YAML
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from nas import tasks
from nas.data.batches import BatchPlan, training_loader
from nas.data.catalog import get
from nas.data.dataset import Dataset
from nas.data.loading import Loader
from nas.data.normalization import Normalization
from nas.data.preprocess import Preprocess
from nas.recipes.groups import (
    AugmentationConfig,
    CheckpointsConfig,
    ComputeConfig,
    DataConfig,
    EmaConfig,
    RegularizationConfig,
)
from nas.recipes.recipe import Recipe
from nas.runs.records import RunInfo
from nas.runs.run_dir import RunDir
from nas.samplers import make_sampler
from nas.torch_backend.dropout import Dropout
from nas.torch_backend.functional import faster_layout
from nas.torch_backend.supernet import Supernet
from nas.training.accelerator import any_rank, make_fabric, on_rank_zero
from nas.training.checkpoint import Checkpoints
from nas.training.data_order import ShuffledOrder
from nas.training.loaders import TrainingBatch, batches, make_mixer
from nas.training.log import TrainingLog
from nas.training.optimizers import make_optimizer
from nas.training.reductions import average_gradients, mean_over_processes, synchronize_batch_norms
from nas.training.state import TrainingState
from nas.training.step import TrainingStep
from nas.training.supervision import make_supervision
from nas.training.train import train
from search_spaces import Space

NO_GPU = "needs a CUDA device"
GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU))
CPU_OR_GPU = ["cpu", pytest.param("cuda", marks=GPU)]
ANY_DEVICE = ["cpu", "meta", "fake cuda", pytest.param("cuda", marks=GPU)]
IMAGES = 16


def make_recipe(tmp_path: Path, device: str, **groups: Any) -> Recipe:
    (tmp_path / "tiny.yaml").write_text(TINY_YAML)
    compute = ComputeConfig(accelerator=device, precision=groups.pop("precision", "32-true"))
    data = DataConfig(dataset="digits", batch_size=IMAGES)
    return Recipe(space=str(tmp_path / "tiny.yaml"), epochs=1, data=data, compute=compute, **groups)


class Training:
    """A training state with its step."""

    def __init__(self, recipe: Recipe, space: Space, fabric: Fabric | None = None) -> None:
        self.recipe, self.task = recipe, tasks.get(recipe.task)
        self.space = space.with_data(outputs=10, channels=1)
        self.fabric = fabric or make_fabric(recipe.compute, IMAGES)
        log = TrainingLog(self.space, 1, "top1")
        sampler = make_sampler(self.space, recipe)
        self.state = TrainingState.start(recipe, self.space, self.fabric, sampler, ShuffledOrder(), log)
        supervision = make_supervision(recipe, self.task, [])
        self.step = TrainingStep(self.fabric, self.state, recipe, self.task, supervision, total=100)

    def batch(self) -> TrainingBatch:
        x = torch.randn(IMAGES, 1, 8, 8, generator=torch.Generator().manual_seed(self.state.step))
        y = torch.arange(IMAGES) % 10
        device = self.fabric.device
        return TrainingBatch(x.to(device), y.to(device), None, IMAGES)

    def take_steps(self, n: int) -> list[float]:
        """The loss of the largest subnet in each step."""
        return [self.step(self.batch(), lr=0.05)[0].loss for _ in range(n)]

    def tensors(self) -> dict[str, Tensor]:
        """Weights, buffers, optimizer state and averages; not the numbers of steps, which stay on the CPU."""
        averages = self.state.average.state_dict() if self.state.average else {}
        momenta = [
            value
            for values in self.state.optimizer.state.values()
            for value in values.values()
            if isinstance(value, Tensor) and value.ndim
        ]
        return {
            **self.state.supernet.state_dict(),
            **({f"average.{name}": x for name, x in averages.items() if name != "n_averaged"}),
            **{f"momentum.{i}": x for i, x in enumerate(momenta)},
        }


def assert_close(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """Assert equality on a CPU, and up to the rounding of other kernels on a GPU."""
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name].cpu(), b[name].cpu(), rtol=2e-3, atol=2e-4, msg=name)


@pytest.fixture(autouse=True)
def _full_float32() -> Iterator[None]:
    """Compute on a GPU with all digits of float32."""
    products = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield
    torch.backends.cuda.matmul.allow_tf32 = products


def fake_cuda(module: nn.Module) -> None:
    """Replace all tensors of a module by fake ones on a CUDA device; call it in a `FakeTensorMode`."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(torch.empty(parameter.shape, device="cuda"))
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda")


@pytest.mark.parametrize("device", ANY_DEVICE)
def test_all_tensors_of_a_step_are_on_the_device(device: str, tmp_path: Path, tiny: Space) -> None:
    recipe = make_recipe(
        tmp_path,
        "cpu",
        precision="16-mixed" if device == "meta" else "32-true",  # torch has no fused optimizer for `meta`
        regularization=RegularizationConfig(dropout=0.2, drop_connect=0.2, apply_to="all"),
        augmentation=AugmentationConfig(mixup_alpha=0.2, cutmix_alpha=1.0),
    )
    task, digits = tasks.get(recipe.task), get("digits")
    space = tiny.with_data(outputs=10, channels=1)
    mix = make_mixer(recipe, task, digits)
    assert mix is not None
    supernet = Supernet(space).train()
    name, fake = device.removeprefix("fake "), device.startswith("fake ")
    with FakeTensorMode(allow_non_fake_inputs=True) if fake else nullcontext():
        if fake:
            fake_cuda(supernet)
        else:
            supernet.to(name)
        optimizer = make_optimizer(supernet, recipe)
        pixels = torch.zeros(4, 1, 8, 8, dtype=torch.uint8, device=name)
        y = torch.zeros(4, dtype=torch.int64, device=name)
        x = Normalization(digits.preprocess, torch.device(name))(pixels)
        for _ in range(2):  # mixup and cutmix
            mixed, targets = (x, y) if fake else mix(x, y, 0)  # fake numbers have no values
            loss_of = make_supervision(recipe, task, [])(mixed, targets)
            for arch in (space.largest | {"resolution": 8}, space.smallest | {"resolution": 8}):
                outputs = supernet(mixed, arch, Dropout(space, 0.2, 0.2))
                loss = loss_of(outputs)
                if not fake:  # the backward pass asks the driver for the device
                    loss.backward()
                assert task.training_metric(outputs.detach(), targets).device.type == name
            if not fake:
                optimizer.step()
        gradients = [p.grad for p in supernet.parameters() if p.grad is not None]
        assert gradients or fake
        for tensor in (*gradients, *supernet.state_dict().values(), loss):
            assert tensor.device.type == name


@pytest.mark.parametrize("device", ["cpu", "meta", pytest.param("cuda", marks=GPU)])
def test_pixels_are_normalized_on_the_device_as_by_numpy(device: str) -> None:
    preprocess = Preprocess(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 5), dtype=np.uint8)
    x = Normalization(preprocess, torch.device(device))(torch.from_numpy(pixels).to(device))
    assert (x.device.type, x.dtype, x.shape) == (device, torch.float32, pixels.shape)
    if device != "meta":
        expected = torch.from_numpy(preprocess.normalize(pixels))
        torch.testing.assert_close(x.cpu(), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("device", "layout"), [("cpu", torch.channels_last), ("fake cuda", torch.contiguous_format)]
)
def test_networks_compute_in_the_faster_layout_of_the_device(
    device: str, layout: torch.memory_format, tiny: Space
) -> None:
    fake = device.startswith("fake")
    with FakeTensorMode(allow_non_fake_inputs=True) if fake else nullcontext():
        x = torch.zeros(2, 3, 8, 8, device=device.removeprefix("fake "))
        for given in (x, x.contiguous(memory_format=torch.channels_last)):
            assert faster_layout(given).is_contiguous(memory_format=layout)


@pytest.mark.parametrize("device", CPU_OR_GPU)
def test_loaded_batches_are_on_the_device(device: str, tmp_path: Path, tiny: Space) -> None:
    recipe = make_recipe(tmp_path, device).replace({"data.workers": 1})
    fabric = make_fabric(recipe.compute, IMAGES)
    loaded = batches(recipe, tiny, get("digits"), ShuffledOrder(), None, fabric, 0, 56)
    batch = next(loaded)
    loaded.close()
    assert batch.x.device.type == batch.y.device.type == device
    assert batch.x.dtype == torch.float32


@pytest.mark.parametrize("device", [torch.device("cpu"), torch.device("meta")])
def test_only_a_gpu_has_pinned_memory_and_asynchronous_copies(
    device: torch.device, tmp_path: Path, tiny: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # a GPU that this training does not use
    pinned: list[bool] = []
    asynchronous: list[bool] = []

    def make_loader(dataset: Dataset, workers: int, *, pin_memory: bool) -> Loader[BatchPlan]:
        pinned.append(pin_memory)
        return training_loader(dataset, workers)

    def copy(self: Tensor, *args: Any, non_blocking: bool = False, **kwargs: Any) -> Tensor:
        asynchronous.append(non_blocking)
        return torch._C.TensorBase.to(self, *args, **kwargs)

    monkeypatch.setattr("nas.training.loaders.training_loader", make_loader)
    recipe = make_recipe(tmp_path, "cpu")
    fabric: Any = SimpleNamespace(device=device, global_rank=0, world_size=1)
    loaded = batches(recipe, tiny, get("digits"), ShuffledOrder(), None, fabric, 0, 56)
    monkeypatch.setattr(Tensor, "to", copy)
    assert next(loaded).x.device == device
    monkeypatch.delattr(Tensor, "to")
    loaded.close()
    assert pinned == [False]
    assert asynchronous
    assert not any(asynchronous)


@pytest.mark.parametrize("device", CPU_OR_GPU)
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adamw"])
def test_state_is_on_the_device_and_equals_that_of_the_cpu(
    device: str, optimizer: str, tmp_path: Path, tiny: Space
) -> None:
    groups = {"ema": EmaConfig(decay=0.9), "optimizer": {"kind": optimizer, "lr": 1e-3}}
    here, there = (Training(make_recipe(tmp_path, name, **groups), tiny) for name in ("cpu", device))
    for training in (here, there):
        assert np.isfinite(training.take_steps(3)).all()
    assert {tensor.device.type for tensor in there.tensors().values()} == {device}
    if optimizer == "sgd":  # the others divide by the size of the gradient, so tiny differences count
        assert_close(here.tensors(), there.tensors())


@pytest.mark.parametrize("device", CPU_OR_GPU)
def test_autocast_computes_in_bfloat16_and_stores_float32(device: str, tmp_path: Path, tiny: Space) -> None:
    exact, training = (
        Training(make_recipe(tmp_path, device, precision=precision), tiny)
        for precision in ("32-true", "bf16-mixed")
    )
    computed: list[torch.dtype] = []
    supernet = training.state.supernet
    supernet.register_forward_hook(lambda module, inputs, outputs: computed.append(outputs.dtype))
    loss, expected = training.take_steps(1)[0], exact.take_steps(1)[0]
    assert set(computed) == {torch.bfloat16}
    assert {tensor.dtype for tensor in training.tensors().values() if tensor.is_floating_point()} == {
        torch.float32
    }
    assert {p.grad.dtype for p in supernet.parameters() if p.grad is not None} == {torch.float32}
    assert loss == pytest.approx(expected, rel=0.05)  # bfloat16 has 8 significant bits
    assert loss != expected


def scaled(tmp_path: Path, device: str, tiny: Space, scale: float, clipping: dict[str, Any]) -> Training:
    """A training in float16 with a scaler of the losses, which Fabric has for a CPU only on request."""
    recipe = make_recipe(tmp_path, device, precision="16-mixed", clipping=clipping)
    scaler = torch.amp.GradScaler(device, init_scale=scale)
    fabric = Fabric(accelerator=device, devices=1, plugins=MixedPrecision("16-mixed", device, scaler))
    fabric.launch()
    return Training(recipe, tiny, fabric)


CLIPPING = [{"kind": "norm", "max_norm": 0.5}, {"kind": "value", "max_value": 0.01}, {"kind": "none"}]


@pytest.mark.parametrize("device", CPU_OR_GPU)
@pytest.mark.parametrize("clipping", CLIPPING, ids=lambda clipping: clipping["kind"])
def test_scaled_gradients_are_clipped_and_applied_without_the_scale(
    device: str, clipping: dict[str, Any], tmp_path: Path, tiny: Space
) -> None:
    exact = Training(make_recipe(tmp_path, device, clipping=clipping), tiny)
    training = scaled(tmp_path, device, tiny, 2.0**8, clipping)
    before = {name: p.detach().clone() for name, p in exact.state.supernet.named_parameters()}
    for side in (exact, training):
        side.take_steps(1)
    a, b = (
        torch.cat(
            [(p.detach() - before[name]).flatten() for name, p in side.state.supernet.named_parameters()]
        )
        for side in (exact, training)
    )
    assert float(a.norm()) > 0
    assert float((a - b).norm() / a.norm()) < 0.1  # float16 has 11 significant bits; the scale is 256


@pytest.mark.parametrize("device", CPU_OR_GPU)
def test_steps_that_overflow_are_skipped_and_the_scale_is_in_the_checkpoint(
    device: str, tmp_path: Path, tiny: Space
) -> None:
    training = scaled(tmp_path, device, tiny, 2.0**40, {"kind": "norm"})
    before = {name: p.detach().clone() for name, p in training.state.supernet.named_parameters()}
    training.take_steps(1)
    assert all(torch.equal(p, before[name]) for name, p in training.state.supernet.named_parameters())
    saved = training.state.state_dict()
    assert saved["precision"]["scale"] == 2.0**39  # halved
    other = scaled(tmp_path, device, tiny, 1.0, {"kind": "norm"})
    other.state.load_state_dict(saved | {"step": 1})
    assert other.state.precision.state_dict() == saved["precision"]


@pytest.mark.parametrize(
    ("first", "second"),
    [("cpu", "cpu"), *(pytest.param(*pair, marks=GPU) for pair in (("cuda", "cpu"), ("cpu", "cuda")))],
)
def test_checkpoints_move_between_devices(first: str, second: str, tmp_path: Path, tiny: Space) -> None:
    run = RunDir.create(
        tmp_path / "run",
        RunInfo(created="", versions={}, space="tiny", dataset="digits", output_names=["a"]),
        tiny,
        "",
    )
    groups = {"ema": EmaConfig(decay=0.9)}
    start, whole, resumed = (
        Training(make_recipe(tmp_path, device, **groups), tiny) for device in (first, second, second)
    )
    start.take_steps(2)
    losses = whole.take_steps(4)
    checkpoints = Checkpoints(run)
    checkpoints.save(start.state.state_dict(), 2)
    saved = Checkpoints(run).load(resumed.state.state_dict())
    assert saved is not None
    assert {x.device.type for x in saved["supernet"].values()} == {"cpu"}
    resumed.state.load_state_dict(saved)
    assert {x.device.type for x in resumed.tensors().values()} == {second}
    np.testing.assert_allclose(resumed.take_steps(2), losses[2:], rtol=2e-3)
    assert_close(resumed.tensors(), whole.tensors())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
def test_training_that_started_on_a_gpu_resumes_on_the_cpu(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path, "cuda", checkpoints=CheckpointsConfig(every_n_minutes=1e-9))

    def stop(what: str, done: int, total: int) -> None:
        if done == 20:
            raise KeyError(done)

    with pytest.raises(KeyError):
        train(recipe, tmp_path / "run", progress=stop)
    run = train(recipe.replace({"compute.accelerator": "cpu"}), tmp_path / "run", resume=True)
    assert len(run.read_csv("training.csv")) == 1


@pytest.fixture(params=[("gloo", "cpu"), pytest.param(("nccl", "cuda"), marks=GPU)], ids=lambda p: p[0])
def device_of_group(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[torch.device]:
    """The device of a process group of one process."""
    backend, device = request.param
    dist.init_process_group(backend, init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield torch.device(device)
    dist.destroy_process_group()


def test_collectives_of_one_process_change_nothing(
    device_of_group: torch.device, tmp_path: Path, tiny: Space
) -> None:
    x = torch.randn(3, device=device_of_group)
    assert torch.equal(mean_over_processes(x.clone()), x)
    fabric = make_fabric(make_recipe(tmp_path, device_of_group.type).compute, IMAGES)
    assert any_rank(fabric, True)
    assert not any_rank(fabric, False)
    assert on_rank_zero(fabric, lambda: 7) == 7

    nets = [Supernet(tiny, zero_init_residual=False).to(device_of_group).train() for _ in range(2)]
    synchronize_batch_norms(nets[1])
    images = torch.randn(6, 1, 8, 8, device=device_of_group)
    outputs = [net(images, tiny.largest | {"resolution": 8}) for net in nets]
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-3, atol=1e-4)
    for output in outputs:
        output.square().sum().backward()
    values = average_gradients(nets[1].parameters(), x)
    assert torch.equal(values, x)
    for own, synchronized in zip(*(net.parameters() for net in nets), strict=True):
        assert (own.grad is None) == (synchronized.grad is None)
        if own.grad is not None and synchronized.grad is not None:
            torch.testing.assert_close(synchronized.grad, own.grad, rtol=2e-2, atol=1e-3)
