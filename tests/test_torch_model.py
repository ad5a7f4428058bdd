"""Conversion of torch models to supernets."""

import itertools
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from conftest import Nas, assert_refused
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torch_models import MODELS, Digits, Head, ResNet, random_model, swin_v2, with_random_weights

import search_spaces
from hw_profiles.latency_models.block_timing import boundaries_of, timed_blocks
from nas import tasks
from nas.data.catalog import get as get_dataset
from nas.data.clean_images import clean_images
from nas.evaluation.trained_run import TrainedRun
from nas.export.torch_source import can_be_written, torch_source
from nas.importing.torch_model.convert import Converted, convert
from nas.importing.torch_model.lowering import Index, Lowering, View
from nas.importing.torch_model.plan import Options
from nas.onnx_backend import onnx_graph
from nas.report import ReportData, write_report
from nas.report.before_training import evaluate_before_training
from nas.report.figures_of_merit import quality_figures
from nas.runs.run_dir import RunDir
from nas.runs.weights import load_supernet
from nas.torch_backend.block_rank import rank_blocks
from nas.torch_backend.coupled_channels import elastic_channels
from nas.torch_backend.importance import taylor_importance
from nas.torch_backend.supernet import Supernet
from search_spaces import Arch, Block, block_key
from search_spaces.costs import macs_table, params_table
from search_spaces.families.traced import TracedSpace
from search_spaces.operators import Conv2d

ALL = Options(elastic=("expand", "depth", "width", "kernel"))
FACTORY = "torch_models:ResNet"
ONE_SIZE = ("transformer", "swin", "functions")
"""Models for images of 16 pixels."""


def images(side: int = 20, n: int = 2) -> Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(1))


def archs(converted: Converted, n: int = 4) -> list[Arch]:
    space = converted.space
    drawn = space.decode(space.sample(np.random.default_rng(0), n))
    return [space.smallest, space.largest, *drawn]


def narrowest(space: TracedSpace) -> Arch:
    """The subnet with all blocks and the smallest option of each other choice."""
    return space.largest | {
        choice.name: choice.options[0] for choice in space.genes if choice.kind != "depth"
    }


@pytest.fixture(params=MODELS, scope="module")
def pair(request: pytest.FixtureRequest) -> tuple[nn.Module, Converted]:
    """A model, and the supernet that was made from it with all kinds of choices."""
    model = random_model(request.param)
    return model, convert(model, [16] if request.param in ONE_SIZE else [16, 20], ALL)


def test_largest_subnet_is_the_model(pair: tuple[nn.Module, Converted]) -> None:
    model, converted = pair
    for side in converted.space.resolutions:
        x = images(side)
        arch = converted.space.largest | {"resolution": side}
        assert torch.equal(converted.supernet(x, arch), model(x))
    unused = ("num_batches_tracked", "relative_position_index")
    own = {name for name in model.state_dict() if not name.endswith(unused)}
    # parameters of modules that have others too
    renamed = {"gamma": "gamma.weight", "token": "token.weight", "positions": "positions.grid"}
    renamed |= {f"in_proj_{name}": f"in_proj.{name}" for name in ("weight", "bias")}
    renamed |= {"relative_position_bias_table": "attention.bias", "grid": "grid.grid"}
    renamed |= {name: f"{name}.value" for name in ("mean", "std", "shift")}
    parts = [name.rpartition(".") for name in own]
    expected = {f"{module}{dot}{renamed.get(name, name)}" for module, dot, name in parts}
    assert converted.supernet.state_dict().keys() == expected


def test_costs_of_subnets_are_those_that_torch_counts(pair: tuple[nn.Module, Converted]) -> None:
    _, converted = pair
    space = converted.space
    for arch in archs(converted):
        net = converted.supernet.extract(arch)
        x = images(int(arch["resolution"]), n=1)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            net(x)
        with torch.no_grad():
            output = net(x)
        assert counter.get_total_flops() == 2 * space.macs(arch)
        assert sum(parameter.numel() for parameter in net.parameters()) == space.params(arch)
        with torch.no_grad():
            assert torch.equal(converted.supernet(x, arch), output)
        model = onnx_graph.serialize(net.blocks, net.weights())
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        result = session.run(None, {onnx_graph.INPUT: x.numpy()})[0]
        np.testing.assert_allclose(result, output, rtol=1e-5, atol=1e-5 * float(output.abs().max()))
    genomes = space.sample(np.random.default_rng(1), 20)
    decoded = space.decode(genomes)
    np.testing.assert_array_equal(macs_table(space)(genomes), [space.macs(arch) for arch in decoded])
    np.testing.assert_array_equal(params_table(space)(genomes), [space.params(arch) for arch in decoded])


def test_blocks_can_be_timed(pair: tuple[nn.Module, Converted]) -> None:
    _, converted = pair
    blocks = timed_blocks(converted.space)
    used = {block_key(b) for arch in archs(converted, 3) for b in converted.space.blocks(arch)}
    assert used <= blocks.keys()
    rng = np.random.default_rng(0)
    graphs = [timed.blocks for timed in list(blocks.values())[:: max(1, len(blocks) // 10)]]
    graphs += [(boundary.calibration_convs(3),) for boundary in boundaries_of(blocks)]
    for graph in graphs:
        model = onnx_graph.serialize(graph, onnx_graph.random_weights(graph, rng))
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        shape = (1, *graph[0].inputs[0].shape)
        (output,) = session.run(None, {onnx_graph.INPUT: np.ones(shape, np.float32)})
        assert output.shape == (1, *graph[-1].output_specs[0].shape)


def test_exported_code_computes_the_subnet(pair: tuple[nn.Module, Converted]) -> None:
    _, converted = pair
    for arch in archs(converted, 1):
        net = converted.supernet.extract(arch)
        if not can_be_written(converted.space.network(arch)):
            pytest.skip("attention and constants of channels have no code")
        code = torch_source(converted.space.network(arch), "A subnet.", "net.safetensors")
        names: dict[str, Any] = {}
        exec(compile(code, "net.py", "exec"), names)
        plain = names["Net"]().eval()
        plain.load_state_dict(net.state_dict())
        x = images(int(arch["resolution"]))
        with torch.no_grad():
            torch.testing.assert_close(plain(x), net(x))


def test_space_file_stands_alone(pair: tuple[nn.Module, Converted]) -> None:
    _, converted = pair
    text = converted.space.to_yaml()
    again = search_spaces.parse(text)
    assert again.to_yaml() == text
    for arch in archs(converted):
        assert again.blocks(arch) == converted.space.blocks(arch)
    supernet = Supernet(again, zero_init_residual=False).eval()
    supernet.load_state_dict(converted.supernet.state_dict())


def test_subnets_learn(pair: tuple[nn.Module, Converted]) -> None:
    _, converted = pair
    supernet = converted.supernet.train()
    try:
        supernet(images(16, n=4), narrowest(converted.space) | {"resolution": 16}).square().sum().backward()
        assert not [name for name, p in supernet.named_parameters() if p.grad is None]
    finally:
        supernet.zero_grad()
        supernet.eval()


def test_views_that_exist_for_a_moment_are_not_mistaken_for_each_other() -> None:
    lowering = Lowering.__new__(Lowering)
    lowering._views, found = {}, itertools.count()
    lowering._recognize = lambda call, view: Index(next(found))
    call: Any = None
    results = [lowering.materialized(call, View(0, torch.arange(1))) for _ in range(20)]
    assert results == list(range(20))


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_order_of_channels_does_not_change_the_network(name: str) -> None:
    model = random_model(name)
    plain, ordered = (convert(model, [16], ALL, sort=sort) for sort in (False, True))
    x = images(16)
    expected = model(x)
    difference = (ordered.supernet(x, ordered.space.largest) - expected).abs().max() / expected.abs().max()
    assert difference <= 1e-5
    arch = narrowest(plain.space)
    assert not torch.equal(ordered.supernet(x, arch), plain.supernet(x, arch))


@torch.no_grad()
def test_order_has_the_channels_with_large_weights_first() -> None:
    model = with_random_weights(ResNet())
    converted = convert(model, [20], sort=True)
    norm = converted.supernet.state_dict()["layer1.0.bn1.weight"]
    read = converted.supernet.state_dict()["layer1.0.conv2.weight"].square().sum((0, 2, 3)).sqrt()
    importance = norm.abs() * read
    assert (importance[:-1] >= importance[1:] - 1e-6).all()


@torch.no_grad()
def test_narrow_subnet_is_a_hand_built_network() -> None:
    model = with_random_weights(ResNet())
    converted = convert(model, [20])
    arch = converted.space.largest
    arch |= {"stages.0.blocks.1.expand": 0.5, "stages.1.blocks.0.expand": 0.75}
    narrow = ResNet((16, 8, 16, 24, 32)).eval()  # half of 16, three quarters of 32
    weights = model.state_dict()
    narrow.load_state_dict(
        {
            name: weights[name][tuple(slice(n) for n in tensor.shape)]
            for name, tensor in narrow.state_dict().items()
        }
    )
    assert torch.equal(converted.supernet(images(), arch), narrow(images()))


@torch.no_grad()
def test_subnet_without_a_head_is_the_network_that_does_not_read_it() -> None:
    model = random_model("transformer")
    converted = convert(model, [16])
    heads = {c.name: c.options for c in converted.space.genes if c.kind == "heads"}
    assert list(heads.values()) == [(1, 2), (1, 2)]
    x, name = images(16), next(iter(heads))
    narrow = converted.supernet(x, converted.space.largest | {name: 1})
    model.get_parameter("blocks.0.attention.out_proj.weight")[:, 8:] = 0  # heads have 8 channels
    torch.testing.assert_close(narrow, model(x))
    off = convert(model, [16], Options(elastic=("expand",)))
    assert dict(off.plan.fixed)["blocks.0.attention.in_proj"] == "the choice heads is off"


@torch.no_grad()
def test_shallow_subnet_is_a_hand_built_network() -> None:
    model = with_random_weights(ResNet())
    converted = convert(model, [20])
    values = dict(converted.space.largest) | {"stages.0.depth": 2, "stages.1.depth": 1}
    arch = converted.space.arch(values)
    shallow = with_random_weights(ResNet((16, 16, 32, 32)))
    shallow.layer2 = shallow.layer2[:1]
    own = shallow.state_dict()
    shallow.load_state_dict({name: model.state_dict()[name] for name in own})
    assert torch.equal(converted.supernet(images(), arch), shallow(images()))


def test_choices_of_a_network_by_hand() -> None:
    space = convert(random_model("mobile"), [16]).space
    options = {choice.name: choice.options for choice in space.genes}
    # the third block changes the shape, so it is a stage of its own; SE has 8 channels in each block, half of
    # which are no multiple of 8
    assert options == {
        "stages.0.depth": (1, 2),
        "stages.0.blocks.0.expand": (0.5, 0.75, 1),
        "stages.0.blocks.1.expand": (0.5, 0.75, 1),
        "stages.1.blocks.0.expand": (0.5, 0.75, 1),
        "stages.1.blocks.0.width": (8, 16),  # 0.75 of 16 are rounded to 16
        "head.width": (16, 24, 32),
    }
    fields = {node.name: node.fields for block in space.config.blocks for node in block.nodes}
    assert fields["2.conv.0.0"]["channels"] == {"stages.0.blocks.0.expand": [16, 24, 32]}
    assert fields["2.conv.4.fc1"]["channels"] == {"stages.0.blocks.0.expand": [4, 6, 8]}


def test_grouped_convolutions_lose_whole_groups() -> None:
    space = convert(random_model("mobile"), [16], Options(divisor=1, ratios=(0.6,))).space
    network = space.network(space.largest | {"stages.0.blocks.1.expand": 0.6})
    grouped = next(node.op for node in network.nodes if node.name == "3.conv.1")
    # groups of 32 / 4 = 8 channels: 0.6 of 32 is 19.2, the next multiple of 8 is 16, below 90 % of 19.2: 24
    assert isinstance(grouped, Conv2d)
    assert (grouped.channels, grouped.groups) == (24, 3)


def test_kept_modules_are_fixed() -> None:
    converted = convert(random_model("resnet"), [20], Options(keep=("layer1.*", "layer2.0.conv1")))
    assert {choice.name for choice in converted.space.genes} == {"stages.1.blocks.1.expand", "stages.1.depth"}
    reasons = dict(converted.plan.fixed)
    assert reasons["layer1.0.conv1"] == "kept (layer1.0.conv1)"
    assert reasons["stem.0"] == "kept (layer1.0.conv2)"  # the sums of layer1 have its channels
    assert "residual stream" in reasons["layer2.1.conv2"]
    assert reasons["fc"] == "outputs of the network"


def test_other_number_of_outputs() -> None:
    converted = convert(random_model("resnet"), [20], outputs=7)
    with torch.no_grad():
        assert converted.supernet(images(), converted.space.largest).shape == (2, 7)


class Sums(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(x).mean((2, 3)), x


class Mode(Two):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        x = self.conv(x)
        return (x if self.training else torch.relu(x)).mean((2, 3))


class Twice(Two):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        y: Tensor = self.conv(self.conv(x))
        return y.mean((2, 3))


class Auxiliary(Two):
    """A network with a second head in training mode, as GoogLeNet has."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last, self.aux = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 2, 1), nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # type: ignore[override]
        x = self.conv(x)
        logits = self.last(x).mean((2, 3))
        return (logits, self.aux(x).mean((2, 3))) if self.training else logits


@torch.no_grad()
def test_attention_of_normalized_vectors() -> None:
    model = with_random_weights(swin_v2())
    converted = convert(model, [16])
    x, space = images(16), converted.space
    assert torch.equal(converted.supernet(x, space.largest), model(x))
    ordered = convert(model, [16], sort=True)
    torch.testing.assert_close(ordered.supernet(x, space.largest), model(x))
    for arch in archs(converted, 1):
        net = converted.supernet.extract(arch)
        output = net(x)
        assert torch.equal(converted.supernet(x, arch), output)
        session = onnxruntime.InferenceSession(
            onnx_graph.serialize(net.blocks, net.weights(), batch=2), providers=["CPUExecutionProvider"]
        )
        result = session.run(None, {onnx_graph.INPUT: x.numpy()})[0]
        np.testing.assert_allclose(result, output, rtol=1e-5, atol=1e-5 * float(output.abs().max()))


class Products(Head):
    """Attention as products with a softmax between them."""

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, channels = x.shape
        query, key, value = self.inputs[0](x).reshape(n, tokens, 3, 2, -1).permute(2, 0, 3, 1, 4)
        shares = F.softmax((query * (channels // 2) ** -0.5) @ key.transpose(-2, -1), dim=-1)
        y: Tensor = self.out((shares @ value).transpose(1, 2).flatten(2))
        return y.mean(1)


@torch.no_grad()
def test_attention_as_products() -> None:
    patches = nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.Flatten(2), Transpose())
    model = with_random_weights(nn.Sequential(patches, Products(True)))
    supernet = convert(model, [16]).supernet
    # torch's fused attention rounds differently
    torch.testing.assert_close(supernet(images(16), supernet.space.largest), model(images(16)))


class Transpose(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class Same(nn.Module):
    """A convolution that pads as TensorFlow does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 16, 5, 2), nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        total = max((-(-x.shape[2] // 2) - 1) * 2 + 5 - x.shape[2], 0)
        x = self.last(self.conv(F.pad(x, [total // 2, total - total // 2] * 2)))
        return x.amax((2, 3))


@torch.no_grad()
def test_padding_that_depends_on_the_size() -> None:
    model = with_random_weights(Same())
    converted = convert(model, [16, 17])  # with 3 and 4 zeros
    for side in (16, 17):
        arch = converted.space.largest | {"resolution": side}
        assert torch.equal(converted.supernet(images(side), arch), model(images(side)))


class Normalized(nn.Module):
    """Images are normalized channel by channel, as in torchvision's GoogLeNet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x[:, i].unsqueeze(1) * (0.1 + i) + 0.2 for i in range(3)], 1)
        y: Tensor = self.last(self.conv(x[:, :, ::2, ::2]))
        return y.mean((2, 3))


@torch.no_grad()
def test_parts_of_images() -> None:
    model = with_random_weights(Normalized())
    supernet = convert(model, [16]).supernet
    assert torch.equal(supernet(images(16), supernet.space.largest), model(images(16)))


def test_auxiliary_heads_are_left_out() -> None:
    converted = convert(Auxiliary(), [4])
    assert converted.training_only == ("aux",)
    assert not any(name.startswith("aux") for name in converted.supernet.state_dict())


class Halves(nn.Module):
    """A part of the channels of a grid of tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return (
            F.layer_norm(x.permute(0, 2, 3, 1), (4,), torch.ones(4), torch.ones(4))
            .chunk(2, dim=-1)[0]
            .mean((1, 2))
        )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: nn.Sequential(nn.Conv2d(3, 4, 1), Halves()),
            r"moves the elements of its input in this way, \(20, 20, 4\)",
        ),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 4, 1), Sums()),
            r"cannot trace 1 \(test_torch_model.py, line \d+: "
            r"return x if x.sum\(\) > 0 else -x\): TraceError: ",
        ),
        (Two, r"cannot convert the model.*must return one tensor, got a tuple of 2"),
        (
            Mode,
            r"the model \(test_torch_model.py, line \d+: .*\) must compute the same in training and in eval "
            r"mode, except for dropout",
        ),
        (Twice, r"conv.*the module conv is called twice"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Softplus()), r"cannot convert 1.*no rule for Softplus"),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()),
            r"must return a vector for each image, got 4@20",
        ),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 30), nn.Flatten()), r"does not run with images of 20 pixels"),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 4, 20), nn.Flatten(), nn.LogSoftmax(1)),
            r"no rule for LogSoftmax; a model must return logits: leave it out at the end",
        ),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 4, 20), nn.Flatten()),
            r"must have an elastic part; 0: outputs of",
        ),
        (lambda: nn.Sequential(nn.Flatten()), r"must have a convolution"),
    ],
)
def test_refused_models(model: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        convert(model(), [20])
    assert "\n" not in str(caught.value)


def test_resolutions_with_other_operators_are_left_out() -> None:
    # maps of 4 and 8 pixels are multiples of the grid of 4, those of 5 pixels are not
    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.AdaptiveAvgPool2d(4), nn.Conv2d(16, 4, 4), nn.Flatten())
    converted = convert(model, [4, 5, 8])
    assert converted.space.resolutions == (4, 8)
    assert [side for side, _ in converted.refused] == [5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("op: relu", "op: relo"), "op must be one of"),
        (("op: relu}", "op: relu, color: 1}"), "the operator relu has no field color"),
        (("kernel: [3, 3]", "kernel: [3, x]"), "kernel.1: input should be a valid integer"),
        (("channels: outputs", "channels: 6"), "the output must be a vector of 5 numbers, got 6"),
        (("[8, 16]", "[8]"), "has 2 options, got 1 values"),
        (("name: stem.1", "name: stem.0"), "names of the nodes must be different"),
        (("inputs: [4, -1]", "inputs: [9, -1]"), "inputs must be indices of earlier nodes"),
        (("resolutions: [20]", "resolutions: [0]"), "resolutions.0"),
    ],
)
def test_damaged_space_files(change: tuple[str, str], message: str) -> None:
    text = convert(random_model("resnet"), [20]).space.to_yaml()
    assert change[0] in text
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        search_spaces.parse(text.replace(*change, 1), source="space.yaml")
    assert str(caught.value).startswith("space.yaml")


def test_command_makes_a_run(tmp_path: Path, nas: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    model = with_random_weights(ResNet())
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, tmp_path / "w.pt")
    out = tmp_path / "run"
    command = ["import", "torch", FACTORY, "--weights", tmp_path / "w.pt", "--resolution", "20"]
    answer = nas(*command, "--order", "none", "--out", out)
    assert answer.code == 0
    assert "stages.0" in answer.out
    assert "residual stream" in answer.out
    run = RunDir.open(out)
    supernet = load_supernet(run)
    with torch.no_grad():
        assert torch.equal(supernet(images(), supernet.space.largest), model(images()))
    assert isinstance(run.space(), TracedSpace)


def test_command_sorts_by_the_change_of_the_loss(
    tmp_path: Path, nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    torch.save(with_random_weights(Digits()).state_dict(), tmp_path / "w.pt")
    command = ("import", "torch", "torch_models:Digits", "--weights", tmp_path / "w.pt", "--resolution", 8)
    nets = {}
    for order in ("none", "taylor"):
        out = tmp_path / order
        data = ("--dataset", "digits", "--round", 1, "--order", order)
        assert nas(*command, *data, "--out", out).code == 0
        nets[order] = load_supernet(RunDir.open(out))
    x, arch = torch.rand(2, 1, 8, 8), nets["none"].space.largest
    with torch.no_grad():
        torch.testing.assert_close(nets["taylor"](x, arch), nets["none"](x, arch))
    groups = elastic_channels(nets["taylor"].space)
    batches = clean_images(get_dataset("digits"), 8, 512, np.random.default_rng(0), torch.device("cpu"))
    for values in taylor_importance(nets["taylor"], groups, batches, F.cross_entropy):
        assert (values[:-1] >= values[1:] * (1 - 1e-4)).all()


@pytest.mark.slow
def test_run_needs_no_code_of_the_network(tmp_path: Path, nas: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    out = tmp_path / "run"
    assert nas("import", "torch", FACTORY, "--resolution", 20, "--out", out).code == 0
    code = (
        "import sys; from nas.runs.run_dir import RunDir; from nas.runs.weights import load_supernet; "
        f"load_supernet(RunDir.open({str(out)!r})); assert 'torch_models' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet18",), "MODEL must be torchvision:NAME, timm:NAME or module:factory"),
        (("torchvision:resnet19",), "torchvision has no classification model 'resnet19'"),
        (("torch_models:ResNet",), "give --resolution"),
        (("torch_models:Missing", "--resolution", "20"), "cannot import the model"),
        (("torch_models:ResNet", "--resolution", "20", "--arg", "outputs"), "--arg must look like"),
        (("torch_models:ResNet", "--resolution", "20", "--arg", "outputs=two"), "failed with TypeError"),
        (("torch_models:MODELS", "--resolution", "20"), "must be a callable"),
        (("torch_models:ResNet", "--resolution", "20", "--ratios", "2"), "ratios must be above 0"),
        (("torch_models:ResNet", "--resolution", "20", "--elastic", "length"), "elastic must be some of"),
        (("torch_models:ResNet", "--resolution", "20", "--order", "any"), "--order must be"),
        (("torch_models:ResNet", "--resolution", "20", "--order", "taylor"), "needs training images; give"),
        (
            ("torch_models:ResNet", "--resolution", "20", "--order", "taylor", "--dataset", "digits"),
            "imported weights have 3 input channels",
        ),
        (
            ("torch_models:ResNet", "--order", "taylor", "--dataset", "digits", "--classes", "10"),
            "--order taylor needs the last layer, which --classes replaces",
        ),
        (("torch_models:ResNet", "--resolution", "20", "--key", "ema"), "--key has no effect"),
    ],
)
def test_command_refuses(
    arguments: tuple[str, ...], message: str, nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    assert_refused(nas("import", "torch", *arguments, "--out", tmp_path / "run"), message)
    assert not (tmp_path / "run").exists()


def test_weights_that_do_not_match(tmp_path: Path, nas: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    state = ResNet().state_dict()
    state["surplus"] = state.pop("fc.weight")
    torch.save(state, tmp_path / "w.pt")
    answer = nas(
        *("import", "torch", FACTORY, "--resolution", 20, "--weights", tmp_path / "w.pt"),
        *("--out", tmp_path / "run"),
    )
    assert_refused(answer, "1 missing (fc.weight); 1 surplus (surplus)")


def test_recipe_trains_an_imported_network(nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    source = ("torch_models:Digits", "--resolution", 8, "--round", 4)
    assert nas("import", "torch", *source, "--out", tmp_path / "imported").code == 0
    run = RunDir.open(tmp_path / "imported")
    page = write_report(ReportData(run.info(), run.space(), tasks.get("classification")))
    again = "nas import torch torch_models:Digits --resolution 8 --round 4 --out NEW --data-root FOLDER"
    assert again in page
    assert "nas export NEW --arch largest" in page  # there is nothing to search yet
    refused = nas("search", tmp_path / "imported", "--dataset", "digits")
    assert refused.code == 2
    changes = (
        "data.dataset=digits",
        "data.batch_size=448",
        "epochs=1",
        "ordering.images=64",
        "compute.threads=1",
    )
    sets = [part for change in changes for part in ("--set", change)]
    config = ("--config", "own-network", "--init", tmp_path / "imported", "--out", tmp_path / "elastic")
    answer = nas("train", *config, *sets)
    assert answer.code == 0, answer.err
    space = RunDir.open(tmp_path / "elastic").space()
    assert isinstance(space, TracedSpace)
    assert space.config.family == "traced"
    assert load_supernet(RunDir.open(tmp_path / "elastic")).space.n_subnets == space.n_subnets
    trained = TrainedRun.open(tmp_path / "elastic")
    figures = quality_figures(evaluate_before_training(trained), trained.task)
    assert [name for name, *_ in figures] == [
        "test top-1, original network",
        "test top-1, smallest subnet before training",
    ]
    test, network = get_dataset("digits").split("test"), load_supernet(RunDir.open(tmp_path / "imported"))
    x = get_dataset("digits").preprocess.normalize(np.asarray(test.images)[:, None])
    with torch.no_grad():
        predicted = network(torch.from_numpy(x), network.space.largest).argmax(1).numpy()
    assert figures[0][1] == pytest.approx(100 * (predicted == test.targets).mean())


def test_depths_skip_unimportant_blocks_first() -> None:
    supernet = convert(random_model("resnet"), [20]).supernet
    space = supernet.space
    assert isinstance(space, TracedSpace)
    names = [slot.name for slot in space.slots if slot.depth == "stages.0.depth"]
    importance = dict(zip(names, (3.0, 1.0, 2.0), strict=True))

    def loss_of(blocks: Sequence[Block]) -> float:
        return -sum(importance.get(block.name, 0.0) for block in blocks)

    assert not space.is_ranked
    ranked = space.with_ranking(rank_blocks(space, loss_of))
    assert ranked.is_ranked
    values = dict(ranked.largest) | {"stages.0.depth": 2}
    kept = [block.name for block in ranked.blocks(ranked.arch(values)) if block.name in names]
    assert kept == [names[0], names[2]]  # in the order of the network
    assert search_spaces.parse(ranked.to_yaml()).to_yaml() == ranked.to_yaml()
    active = ranked.arch(values)
    assert f"{names[1]}.expand" not in active
    assert f"{names[2]}.expand" in active


def test_taylor_importance_is_the_change_of_the_loss() -> None:
    model = with_random_weights(
        nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1), nn.Flatten(), nn.Linear(32, 2))
    )
    supernet = convert(model, [4], Options(divisor=1)).supernet
    groups = elastic_channels(supernet.space)
    x, zero = torch.randn(1, 3, 4, 4), torch.zeros(1, dtype=torch.long)
    # for a loss that is linear in the outputs, the first order is exact
    importance = taylor_importance(supernet, groups, [(x, zero)], lambda outputs, targets: outputs.sum())
    nodes = supernet.space.network(supernet.space.largest).nodes
    first = next(i for i, group in enumerate(groups) if nodes[group.writers[0]].name == "0")
    with torch.no_grad():
        full = model(x).sum()
        for c in range(8):
            reader = model[1]
            assert isinstance(reader, nn.Conv2d)
            weight = reader.weight.clone()
            reader.weight[:, c] = 0
            torch.testing.assert_close(
                importance[first][c], (full - model(x).sum()).abs(), rtol=1e-4, atol=1e-4
            )
            reader.weight.copy_(weight)
