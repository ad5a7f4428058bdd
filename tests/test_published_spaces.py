"""Published counts, multiply-accumulates and parameters of the published spaces."""

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import search_spaces
from benchmarks import onnx_export
from nas.notation.attentivenas import arch_from_attentivenas
from nas.notation.ofa import arch_from_ofa
from nas.onnx_backend import onnx_graph
from nas.torch_backend.supernet import Supernet
from search_spaces import Arch, Space

OFA = ["ofa-mbv3-w1.0", "ofa-mbv3-w1.2", "ofa-proxyless-w1.3"]
PUBLISHED = [*OFA, "attentivenas", "bignas"]
# a stage of 2, 3 or 4 blocks with 3 kernels and 3 expands each
STAGE = 9**2 + 9**3 + 9**4


@pytest.mark.parametrize(
    ("name", "without_resolutions", "resolutions"),
    [
        ("ofa-mbv3-w1.0", STAGE**5, 25),
        ("ofa-mbv3-w1.2", STAGE**5, 25),
        ("ofa-proxyless-w1.3", STAGE**5 * 9, 25),
        # stem and head widths; per stage: widths x depths x kernels x expands
        (
            "attentivenas",
            2 * 2 * math.prod([2 * 2 * 2, 2 * 3 * 2 * 3, *[2 * 4 * 2 * 3] * 2, 3 * 6 * 2 * 3, 4 * 6 * 2, 8]),
            4,
        ),
        ("bignas", 2 * 2 * math.prod([2 * 2, 2 * 2, 2 * 2 * 2, 2 * 3 * 2, 3 * 5 * 2, 4 * 5 * 2, 8]), 4),
    ],
)
def test_number_of_subnets(name: str, without_resolutions: int, resolutions: int) -> None:
    space = search_spaces.get(name)
    assert len(space.resolutions) == resolutions
    assert space.n_subnets == without_resolutions * resolutions


def test_number_of_subnets_as_published() -> None:
    counts = {name: search_spaces.get(name) for name in PUBLISHED}
    per_resolution = {n: f"{s.n_subnets // len(s.resolutions):.2e}" for n, s in counts.items()}
    assert [per_resolution[name] for name in OFA] == ["2.18e+19", "2.18e+19", "1.96e+20"]
    assert f"{counts['attentivenas'].n_subnets:.2e}" == "4.40e+11"


def extreme(space: Space, largest: bool, resolution: int) -> Arch:
    notation = {"ks": 7, "e": 6, "d": 4} if largest else {"ks": 3, "e": 3, "d": 2}
    return arch_from_ofa(space, notation | {"r": [resolution]})


@pytest.mark.parametrize(
    ("name", "largest", "params", "macs"),
    [
        ("ofa-mbv3-w1.0", True, 7.665, {128: 188.25, 160: 291.32, 224: 566.17}),
        ("ofa-mbv3-w1.0", False, 3.411, {128: 41.48, 160: 63.24, 224: 121.28}),
        ("ofa-mbv3-w1.2", True, 10.702, {128: 279.99, 160: 433.56, 224: 843.10}),
        # 4,602,456 is also what OFA's own static subnet has
        ("ofa-mbv3-w1.2", False, 4.602, {128: 65.54, 160: 100.32, 224: 193.08}),
        ("ofa-proxyless-w1.3", True, 7.942, {128: 329.25, 160: 513.52, 224: 1004.91}),
        ("ofa-proxyless-w1.3", False, 3.719, {128: 87.82, 160: 136.29, 224: 265.53}),
    ],
)
def test_costs_of_the_extreme_ofa_subnets(
    name: str, largest: bool, params: float, macs: dict[int, float]
) -> None:
    space = search_spaces.get(name)
    for resolution, millions in macs.items():
        arch = extreme(space, largest, resolution)
        assert round(space.macs(arch) / 1e6, 2) == millions
        assert round(space.params(arch) / 1e6, 3) == params


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "params"), [("ofa-mbv3-w1.0", 7.679), ("ofa-mbv3-w1.2", 10.716), ("ofa-proxyless-w1.3", 7.957)]
)
def test_parameters_of_the_whole_ofa_supernet(name: str, params: float) -> None:
    space = search_spaces.get(name)
    total = sum(p.numel() for p in Supernet(space).parameters())
    assert round(total / 1e6, 3) == params
    elastic_blocks = 21 if "proxyless" in name else 20
    assert total - space.params(space.largest) == elastic_blocks * (25**2 + 9**2)  # learned kernels' maps


MINIMUM = {
    "resolution": 192,
    "width": [16, 16, 24, 32, 64, 112, 192, 216, 1792],
    "depth": [1, 3, 3, 3, 3, 3, 1],
    "kernel_size": [3] * 7,
    "expand_ratio": [1, 4, 4, 4, 4, 6, 6],
}
A1 = MINIMUM | {
    "resolution": 224,
    "width": [16, 16, 24, 32, 64, 112, 192, 216, 1984],
    "kernel_size": [3, 3, 3, 5, 3, 5, 3],
}
A2 = A1 | {
    "width": [16, 16, 24, 32, 64, 112, 200, 224, 1984],
    "depth": [1, 3, 3, 3, 3, 4, 1],
    "kernel_size": [3, 3, 3, 3, 3, 5, 3],
    "expand_ratio": [1, 4, 5, 4, 4, 6, 6],
}
A4 = A1 | {"resolution": 256, "depth": [1, 3, 3, 4, 3, 5, 1], "expand_ratio": [1, 4, 4, 5, 4, 6, 6]}
MAXIMUM = {
    "resolution": 288,
    "width": [24, 24, 32, 40, 72, 128, 216, 224, 1984],
    "depth": [2, 5, 6, 6, 8, 8, 2],
    "kernel_size": [5] * 7,
    "expand_ratio": [1, 6, 6, 6, 6, 6, 6],
}


@pytest.mark.parametrize(
    ("notation", "macs", "params"),
    [
        (MINIMUM, "203.390", "8.954"),  # which is A0
        (A1, "279.2388", "9.453"),
        (A2, "316.7301", "11.150"),
        (A4, "443.5308", "11.810"),
        (MAXIMUM, "1939.336", "23.404"),
    ],
    ids=["A0", "A1", "A2", "A4", "maximum"],
)
def test_costs_of_the_attentivenas_models(notation: dict[str, object], macs: str, params: str) -> None:
    space = search_spaces.get("attentivenas")
    arch = arch_from_attentivenas(space, notation)
    assert f"{space.macs(arch) / 1e6:.{len(macs.partition('.')[2])}f}" == macs
    assert f"{space.params(arch) / 1e6:.3f}" == params


def test_attentivenas_extremes_equal_those_of_the_space() -> None:
    space = search_spaces.get("attentivenas")
    assert arch_from_attentivenas(space, MINIMUM) == space.smallest
    assert arch_from_attentivenas(space, MAXIMUM) == space.largest


def test_shortcuts_of_attentivenas() -> None:
    space = search_spaces.get("attentivenas")
    shortcuts = {
        block.name: [node.name for node in block.nodes if "shortcut" in node.name]
        for block in space.blocks(space.largest)
    }
    assert shortcuts["stages.0.blocks.0"] == ["shortcut"]  # 24 > 24
    assert shortcuts["stages.1.blocks.0"] == ["shortcut.pool", "shortcut.conv", "shortcut"]  # 24 > 32, halved
    assert shortcuts["stages.4.blocks.0"] == ["shortcut.conv", "shortcut"]  # 72 > 128
    assert shortcuts["stages.4.blocks.7"] == ["shortcut"]
    # 24 > 24 in the smallest width of stage 1 after the widest of stage 0: pooled only
    arch = arch_from_attentivenas(space, MAXIMUM | {"width": [24, 24, 24, 40, 72, 128, 216, 224, 1984]})
    block = next(b for b in space.blocks(arch) if b.name == "stages.1.blocks.0")
    assert [node.name for node in block.nodes if "shortcut" in node.name] == ["shortcut.pool", "shortcut"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [(name, 48) for name in (*PUBLISHED, "ofa-resnet50")]
    + [(name, None) for name in ("ofa-mbv3-w1.0", "attentivenas", "ofa-resnet50")],
)
def test_outputs_of_static_elastic_and_onnx_networks_are_equal(name: str, size: int | None) -> None:
    space = search_spaces.get(name)
    if size:
        update = {"resolutions": (33, size)} | ({"input_size": 40} if name == "attentivenas" else {})
        space = type(space)(space.config.model_copy(update=update))  # type: ignore[call-arg]
    rng = np.random.default_rng(0)
    supernet = Supernet(space, zero_init_residual=False).eval()
    for arch in space.decode(space.sample(rng, 5 if size else 2)):
        images = space.image_size(arch)
        x = torch.randn(1, 3, images, images, generator=torch.Generator().manual_seed(0))
        static = supernet.extract(arch)
        with torch.no_grad():
            expected = supernet(x, arch)
            torch.testing.assert_close(static(x), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
        model = onnx_graph.build(space.blocks(arch), static.weights())
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        logits = session.run(None, {onnx_graph.INPUT: x.numpy()})[0]
        difference = np.abs(logits - expected.numpy()).max()
        assert difference <= 1e-4 * np.abs(expected.numpy()).max()


@pytest.mark.slow
@pytest.mark.measures
@pytest.mark.parametrize("name", ["ofa-mbv3-w1.0", "attentivenas", "ofa-resnet50"])
def test_export_is_much_faster_than_torchs_exporter(name: str, tmp_path: Path) -> None:
    space = search_spaces.get(name)
    arch = onnx_export.subnet(space)
    static = Supernet(space, zero_init_residual=False).eval().extract(arch)
    size = space.image_size(arch)
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    ours, theirs = tmp_path / "ours.onnx", tmp_path / "theirs.onnx"
    written = onnx_export.seconds(lambda: onnx_export.write_file(space.blocks(arch), static, ours), 3)
    exported = onnx_export.seconds(lambda: onnx_export.write_file_by_torch(static, x, theirs), 2)
    assert written <= 1
    assert exported / written >= 20
    results = []
    for path in (ours, theirs):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        results.append(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
    assert np.abs(results[0] - results[1]).max() <= 1e-4 * np.abs(results[1]).max()
