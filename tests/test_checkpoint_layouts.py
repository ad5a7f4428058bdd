"""Common layouts of checkpoints: keys, prefixes and formats, and errors of files that do not match."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from nas.importing.fit import read_as

MODULES = {"stem.conv": "first_conv.conv", "head.classifier": "classifier.linear"}
OWN = {
    "stem.conv.weight": torch.zeros(4, 3, 1, 1),
    "stem.conv.norm.bias": torch.zeros(4),
    "head.classifier.bias": torch.zeros(2),
}
STATE = {
    "first_conv.conv.weight": torch.arange(12.0).reshape(4, 3, 1, 1),
    "first_conv.bn.bias": torch.arange(4.0),
    "classifier.linear.bias": torch.ones(2),
}
"""A network of three tensors by their names in the file."""
BIAS = "classifier.linear.bias"


def prefixed(prefix: str, state: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def compiled_blocks() -> dict[str, Tensor]:
    """A checkpoint of distributed training with `torch.compile` of single blocks."""
    return {
        name.replace("first_conv.", "first_conv._orig_mod."): tensor
        for name, tensor in prefixed("module.").items()
    }


def read(path: Path, content: object, key: str | None = None) -> dict[str, Tensor]:
    torch.save(content, path)
    return read_as(path, OWN, MODULES, key=key)


def assert_expected(loaded: dict[str, Tensor]) -> None:
    assert loaded["stem.conv.weight"].flatten().tolist() == list(range(12))
    assert loaded["stem.conv.norm.bias"].tolist() == [0, 1, 2, 3]
    assert loaded["head.classifier.bias"].tolist() == [1, 1]
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32}


def average() -> dict[str, Tensor]:
    """Weights that differ from `STATE`, as a moving average."""
    return {name: t + 1 if t.is_floating_point() else t for name, t in STATE.items()}


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": prefixed("model."), "loss_scale": torch.ones(1), "pytorch-lightning_version": "2.5"},
        {"state_dict": prefixed("model.") | {"metric.total": torch.zeros(1)}},
        {"state_dict": prefixed("net.backbone.")},
        {"state_dict": prefixed("_orig_mod.")},
        {"state_dict": prefixed("_orig_mod.module.")},
        {"state_dict": prefixed("module.module.")},
        compiled_blocks(),
        {"model": STATE, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}, "epoch": 3},
        {"model": {"state_dict": prefixed("module.")}},
        {"model_state_dict": STATE},
        {"ema": prefixed("module.")},
        {"model_ema": STATE, "args": object()},
        {"state_dict_ema": STATE},
        {"state_dict_ema": average(), "state_dict": STATE},
        {"state_dict": prefixed("ema.", average()) | prefixed("model.")},
        {"model": {"w": torch.zeros(1)}, "net": STATE},
    ],
)
def test_common_layouts_are_read(content: object, tmp_path: Path) -> None:
    assert_expected(read(tmp_path / "x.pt", content))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_of_numbers_are_read_as_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    assert_expected(read(tmp_path / "x.pt", {name: tensor.to(dtype) for name, tensor in STATE.items()}))


def test_safetensors_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file(prefixed("module."), path)
    assert_expected(read_as(path, OWN, MODULES))
    content = path.read_bytes()
    for length in (9, 100, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"x\.safetensors is truncated or not a safetensors file"):
            read_as(path, OWN, MODULES)


def test_key_selects_a_set_of_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "nas")
    path, both = tmp_path / "x.pt", {"state_dict_ema": average(), "state_dict": STATE}
    assert_expected(read(path, both))
    assert f"reading weights from state_dict; {path} also has weights in state_dict_ema" in caplog.text
    assert read(path, both, "state_dict_ema")["head.classifier.bias"].tolist() == [2, 2]
    with pytest.raises(ValueError, match=r"--key must be one of \['state_dict', 'state_dict_ema'\]"):
        read(path, both, "ema")


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_errors(wrong: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"finite numbers, got 1 with .* \(head.classifier.bias\)"):
        read(tmp_path / "x.pt", STATE | {BIAS: torch.tensor([1, wrong])})


class Net(torch.nn.Module):
    """A network that is pickled as an object."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Net(), r"pickled object of the class Net, which is not loaded: save only the weights"),
        ({"model": Net(), "epoch": 3}, r"pickled object of the class Net"),
        ({"epoch": 3, "args": {"lr": 1}}, r"its 2 keys are epoch \(int\), args \(dict\)"),
        (
            STATE | {BIAS: torch.zeros(3)},
            r"1 of another shape .* instead of \(2,\)\); .* itself \(3\)",
        ),
        (
            {"state_dict": {"other." + BIAS: torch.zeros(2)}},
            r"2 missing .*; .* under state_dict \(1\)",
        ),
        (
            {"model": {"w": torch.zeros(1)}},
            r"no tensor .*under model \(1\), such as w",
        ),
    ],
)
def test_error_describes_the_content_of_a_file_without_matching_weights(
    content: object, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path / "x.pt", content)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
