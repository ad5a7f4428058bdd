"""Vision transformers of other tools: logits, names of tensors, and files that do not match."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import vit_checkpoints as vits
from PIL import Image
from torch import Tensor
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

import nas.importing
import search_spaces
from nas.cli.main import main
from nas.evaluation.trained_run import TrainedRun
from nas.importing.import_run import import_run
from nas.importing.importers import has_statistics
from nas.importing.source_preprocess import source_preprocess
from nas.notation.autoformer import arch_to_autoformer
from nas.recipes.recipe import Recipe
from nas.runs.files import SPACE
from nas.torch_backend.supernet import Supernet
from nas.training.train import train
from search_spaces.families.vit_config import ViTConfig

SIZE = vits.PATCH * vits.SIDE


def images(size: int = SIZE) -> Tensor:
    generator = torch.Generator().manual_seed(size)
    return torch.randn(2, vits.CHANNELS, size, size, generator=generator, dtype=torch.float64)


def doubles(state: vits.State) -> vits.State:
    return {name: tensor.double() for name, tensor in state.items()}


def load(
    source: str, tmp_path: Path, content: Any, space: str = vits.PRETRAINED, key: str | None = None
) -> Supernet:
    """Import a checkpoint in double precision."""
    torch.save(content, tmp_path / "weights.pth")
    name = vits.write_space(tmp_path, space)
    return nas.importing.load_supernet(source, tmp_path / "weights.pth", name, key=key).double()


def config_of(supernet: Supernet) -> ViTConfig:
    assert isinstance(supernet.space.config, ViTConfig)
    return supernet.space.config


@torch.no_grad()
def assert_equal(ours: Tensor, theirs: Tensor, tolerance: float = 1e-11) -> None:
    """Logits are equal up to rounding, by default that of float64."""
    assert theirs.std() > 1e-2
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * float(theirs.abs().max()))


@pytest.fixture
def image_root(tmp_path: Path) -> Path:
    """Images in ImageNet's layout: 5 classes, 2 images each in train and val."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for c in range(vits.CLASSES):
            folder = tmp_path / "images" / split / f"class{c}"
            folder.mkdir(parents=True)
            for i in range(2):
                Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "images"


# ---------------------------------------------------------------------- logits


@pytest.mark.parametrize("source", ["autoformer", "prenas"])
def test_logits_of_imported_supernets(source: str, tmp_path: Path, rng: np.random.Generator) -> None:
    state = vits.autoformer_state()
    supernet = load(source, tmp_path, {"model": state, "epoch": 3}, vits.SUPERNET)
    assert not supernet.training
    assert has_statistics(supernet)  # nothing to calibrate
    space = supernet.space
    forward = partial(vits.autoformer_forward, doubles(state), interleaved_bias=source == "prenas")
    for arch in [space.smallest, space.largest, *space.decode(space.sample(rng, 6))]:
        notation = arch_to_autoformer(space, arch)
        assert nas.importing.arch_from_notation(source, space, notation) == arch
        with torch.no_grad():
            assert_equal(supernet(images(), arch), forward(notation, images()))


def test_sources_slice_the_bias_differently(tmp_path: Path) -> None:
    state = vits.autoformer_state()
    ours = [load(source, tmp_path, {"model": state}, vits.SUPERNET) for source in ("autoformer", "prenas")]
    with torch.no_grad():
        first, second = (supernet(images(), supernet.space.smallest) for supernet in ours)
    assert (first - second).abs().max() > 0.01


def torchvision_net(size: int = SIZE) -> VisionTransformer:
    torch.manual_seed(0)
    net = VisionTransformer(size, vits.PATCH, vits.DEPTH, 4, 16, 32, num_classes=vits.CLASSES)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return net.eval()


@pytest.mark.parametrize("old_names", [False, True])
def test_logits_of_a_network_of_torchvision(old_names: bool, tmp_path: Path) -> None:
    net = torchvision_net()
    state = net.state_dict()
    if old_names:
        state = {
            n.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): t for n, t in state.items()
        }
    supernet = load("torchvision", tmp_path, state)
    with torch.no_grad():
        assert_equal(supernet(images(), supernet.space.largest), net.double()(images()))


@pytest.mark.parametrize(
    "structure",
    [
        {},
        {"layer_scale": True, "class_position": False},  # DeiT III
        {"registers": 3, "class_position": False, "layer_scale": True},  # DINOv2
        {"registers": 2},
        {"pooled_norm": True},
    ],
    ids=str,
)
def test_logits_of_a_network_of_timm(structure: dict[str, Any], tmp_path: Path) -> None:
    state = vits.timm_state(**structure)
    supernet = load("timm", tmp_path, state)
    with torch.no_grad():
        assert_equal(supernet(images(), supernet.space.largest), vits.timm_forward(doubles(state), images()))


def test_classifiers_of_a_distilled_network_are_joined(tmp_path: Path) -> None:
    state = vits.timm_state(distilled=True)
    supernet = load("timm", tmp_path, state)
    assert config_of(supernet).pool == "two_tokens"
    theirs = vits.timm_forward(doubles(state), images())
    with torch.no_grad():  # the sum of the two biases is rounded to float32
        assert_equal(supernet(images(), supernet.space.largest), theirs, 1e-7)
    del state["head_dist.bias"]
    with pytest.raises(ValueError, match=r"2 surplus \(head_dist.weight, dist_token\)"):
        load("timm", tmp_path, state)


def test_network_of_installed_timm(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    net = timm.models.VisionTransformer(
        img_size=SIZE,
        patch_size=vits.PATCH,
        num_classes=vits.CLASSES,
        embed_dim=16,
        depth=vits.DEPTH,
        num_heads=4,
        mlp_ratio=2,
        init_values=0.1,
        no_embed_class=True,
        reg_tokens=2,
    ).eval()
    supernet = load("timm", tmp_path, net.state_dict())
    with torch.no_grad():
        assert_equal(supernet(images(), supernet.space.largest), net.double()(images()))


# ---------------------------------------------------------------------- files


def test_positions_are_resampled_as_in_torchvision(tmp_path: Path) -> None:
    net, size = torchvision_net(), 12
    space = vits.PRETRAINED.replace("[8]", f"[{size}]")
    supernet = load("torchvision", tmp_path, net.state_dict(), space)
    other = torchvision_net(size)
    other.load_state_dict(interpolate_embeddings(size, vits.PATCH, net.state_dict()))
    with torch.no_grad():
        ours, theirs = supernet(images(size), supernet.space.largest), other.double()(images(size))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)  # resampled in float32


def test_positions_are_resampled_as_in_timm(tmp_path: Path) -> None:
    state = vits.timm_state(side=6)
    supernet = load("timm", tmp_path, state)
    grid = state["pos_embed"][:, 1:].unflatten(1, (6, 6)).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, (vits.SIDE, vits.SIDE), mode="bicubic", antialias=True)
    ours = supernet.get_parameter("stem.position.grid")
    torch.testing.assert_close(ours, expected[0].permute(1, 2, 0).double())
    assert torch.equal(supernet.get_parameter("stem.position.prefix"), state["pos_embed"][0, :1].double())


@pytest.mark.parametrize(
    ("source", "read", "option"),
    [
        ("autoformer", "model", "model_ema"),
        ("torchvision", "model", "model_ema"),
        ("timm", "model_ema", "model"),
    ],
)
def test_weights_are_those_that_the_tool_loads(source: str, read: str, option: str, tmp_path: Path) -> None:
    if source == "autoformer":
        states, space = [vits.autoformer_state(seed) for seed in (0, 1)], vits.SUPERNET
    elif source == "timm":
        states, space = [vits.timm_state(seed) for seed in (0, 1)], vits.PRETRAINED
    else:
        states, space = [torchvision_net().state_dict() for _ in (0, 1)], vits.PRETRAINED
        states[1] = {name: tensor + 1 for name, tensor in states[1].items()}
    content = {option: {f"module.{n}": t for n, t in states[1].items()}, read: states[0]}
    patches = [state[next(n for n in state if "proj" in n and n.endswith("weight"))] for state in states]
    for key, expected in ((None, patches[0]), (option, patches[1])):
        supernet = load(source, tmp_path, content, space, key)
        width = config_of(supernet).width[-1]
        assert torch.equal(supernet.get_parameter("stem.patch.weight"), expected[:width].double())


def test_other_spellings_of_timm(tmp_path: Path) -> None:
    state = vits.timm_state(layer_scale=True)
    expected = load("timm", tmp_path, state).state_dict()
    renamed = {
        name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): tensor
        for name, tensor in state.items()
    }
    renamed["patch_embed.proj.weight"] = renamed["patch_embed.proj.weight"].flatten(1)
    renamed["pre_logits.fc.weight"] = torch.zeros(16, 16)
    loaded = load("timm", tmp_path, {"model": renamed}).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())


def test_number_of_classes_is_that_of_the_file(tmp_path: Path) -> None:
    state = vits.timm_state() | {"head.weight": torch.zeros(7, 16), "head.bias": torch.zeros(7)}
    assert load("timm", tmp_path, state).space.config.outputs == 7


def test_supernet_of_prenas_with_fewer_blocks(tmp_path: Path) -> None:
    state = {n: t for n, t in vits.autoformer_state().items() if not n.startswith("blocks.1.")}
    assert config_of(load("prenas", tmp_path, {"model": state}, vits.SUPERNET)).depth == (1,)
    with pytest.raises(ValueError, match="16 missing"):
        load("autoformer", tmp_path, {"model": state}, vits.SUPERNET)


# ---------------------------------------------------------------------- files that do not match


def test_error_lists_all_tensors_that_do_not_match(tmp_path: Path) -> None:
    state = vits.timm_state()
    del state["blocks.1.norm2.bias"], state["cls_token"], state["patch_embed.proj.weight"]
    state["blocks.0.mlp.fc1.weight"] = torch.zeros(30, 16)
    state |= {"dist_token": torch.zeros(1, 1, 16), "blocks.0.attn.q_norm.weight": torch.zeros(4)}
    with pytest.raises(ValueError, match="does not match") as error:
        load("timm", tmp_path, state)
    message = str(error.value)
    assert "\n" not in message
    for part in (
        "3 missing (patch_embed.proj.weight, cls_token, blocks.1.norm2.bias)",
        "2 surplus (dist_token, blocks.0.attn.q_norm.weight)",
        "1 of another shape (blocks.0.mlp.fc1.weight (30, 16) instead of (32, 16))",
    ):
        assert part in message


def test_many_names_are_combined(tmp_path: Path) -> None:
    state = {n: t for n, t in torchvision_net().state_dict().items() if "encoder_layer" not in n}
    with pytest.raises(ValueError, match=r"24 missing \(encoder.layers.encoder_layer_\{0-1\}.ln_1.weight, "):
        load("torchvision", tmp_path, state)


@pytest.mark.parametrize(
    ("source", "change", "message"),
    [
        (
            "timm",
            ("patch: 2", "patch: 4"),
            r"patch_embed.proj.weight \(16, 3, 2, 2\) instead of \(16, 3, 4, 4\)",
        ),
        ("timm", ("width: [16]", "width: [24]"), r"cls_token \(1, 1, 16\) instead of \(1, 1, 24\)"),
        ("timm", ("resolutions: [8]", "resolutions: [9]"), "must be multiples of patch 2"),
        (
            "autoformer",
            ("resolutions: [8]", "resolutions: [12]"),
            r"pos_embed \(1, 17, 16\) instead of \(1, 37, 16\)",
        ),
        (
            "autoformer",
            ("heads: [2, 3, 4]", "heads: [2, 3]"),
            r"cls_token \(1, 1, 16\) instead of \(1, 1, 12\)",
        ),
        (
            "autoformer",
            ("kind: tables, distance: 2", "kind: tables, distance: 3"),
            r"\(6, 4\) instead of \(8, 4\)",
        ),
    ],
)
def test_file_of_another_space_is_an_error(
    source: str, change: tuple[str, str], message: str, tmp_path: Path
) -> None:
    text = vits.SUPERNET if source == "autoformer" else vits.PRETRAINED
    state = vits.autoformer_state() if source == "autoformer" else vits.timm_state()
    with pytest.raises(ValueError, match=message):
        load(source, tmp_path, {"model": state}, text.replace(*change))


def test_other_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no tensor has a name such as conv_proj\.weight"):
        load("torchvision", tmp_path, vits.timm_state())
    with pytest.raises(ValueError, match="must have finite numbers"):
        load("timm", tmp_path, vits.timm_state() | {"head.bias": torch.full((5,), torch.nan)})
    torch.save(vits.timm_state(), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="must be of the family vit, got 'digits' of the family 'mbconv'"):
        nas.importing.load_supernet("timm", tmp_path / "weights.pth", "digits")
    content = (tmp_path / "weights.pth").read_bytes()
    (tmp_path / "weights.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="truncated or not a checkpoint"):
        nas.importing.load_supernet("timm", tmp_path / "weights.pth", "deit-tiny")
    space = vits.PRETRAINED + "relative: {kind: bias}\nprefix: 0\npool: mean\nposition: none\n"
    with pytest.raises(ValueError, match=r"autoformer have no tensor for .*attend\.bias, which the space"):
        load("autoformer", tmp_path, {"model": vits.autoformer_state()}, space)


# ---------------------------------------------------------------------- preprocessing


@pytest.mark.parametrize(
    ("source", "model", "resolution", "resized", "interpolation", "mean"),
    [
        ("torchvision", "vit_b_16-c867db91", 224, 256, "bilinear", 0.485),
        ("torchvision", "vit_l_16", 224, 242, "bilinear", 0.485),
        ("torchvision", "vit_b_16_swag-9ac1b537", 384, 384, "bicubic", 0.485),
        ("torchvision", "vit_h_14_lc_swag", 224, 224, "bicubic", 0.485),
        ("timm", "vit_base_patch16_224.augreg_in21k", 224, 248, "bicubic", 0.5),
        ("timm", "vit_base_patch16_384", 384, 384, "bicubic", 0.5),
        ("timm", "vit_small_patch16_224.dino", 224, 248, "bicubic", 0.485),
        ("timm", "deit_tiny_patch16_224-a1311bcf", 224, 248, "bicubic", 0.485),
        ("timm", "deit3_small_patch16_224.fb_in22k_ft_in1k", 224, 224, "bicubic", 0.485),
        ("autoformer", "supernet-tiny", 224, 256, "bicubic", 0.485),
    ],
)
def test_preprocessing_of_the_sources(
    source: str, model: str, resolution: int, resized: int, interpolation: str, mean: float
) -> None:
    preprocess = source_preprocess(source, model, resolution)
    assert preprocess is not None
    found = (preprocess.resize_to(resolution), preprocess.interpolation, preprocess.mean[0])
    assert found == (resized, interpolation, mean)


def test_runs_keep_the_preprocessing_of_the_source(tmp_path: Path, image_root: Path) -> None:
    supernet = load("timm", tmp_path, vits.timm_state()).float()
    assert supernet.space.config.outputs == vits.CLASSES
    weights = tmp_path / "weights.pth"
    run = import_run(
        supernet, tmp_path / "run", source="timm", checkpoint=weights, data_root=image_root, model="deit_x"
    )
    expected = source_preprocess("timm", "deit_x", SIZE)
    assert TrainedRun.open(run.path).dataset.preprocess == expected
    recipe = Recipe.model_validate(
        {
            "space": str(run.file(SPACE)),
            "init": str(run.path),
            "epochs": 1,
            "data": {"dataset": "imagefolder", "root": str(image_root), "batch_size": 5},
        }
    )
    trained = TrainedRun.open(train(recipe, tmp_path / "trained").path)
    assert trained.dataset.preprocess == expected
    assert trained.info.imported is None


def test_command_names_the_preprocessing_and_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load("timm", tmp_path, {"model": vits.timm_state()})
    arguments = "import timm weights.pth --space space.yaml --out run --model deit_x"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["nas", *arguments.split()])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    note, preprocessing, then = capsys.readouterr().out.splitlines()
    assert note.endswith("only the largest subnet is trained: train the others before a search")
    # 248 / 224 of 8 pixels, rounded up
    assert "shorter side to 9 pixels (bicubic), central 8 x 8, mean 0.485 0.456 0.406" in preprocessing
    assert "nas train --config pretrained-vit --init run" in then


def test_import_for_an_embedded_data_set(tmp_path: Path) -> None:
    space = search_spaces.get("vit-digits")
    (tmp_path / "weights.pth").write_bytes(b"")
    run = import_run(
        Supernet(space),
        tmp_path / "run",
        source="timm",
        checkpoint=tmp_path / "weights.pth",
        dataset="digits",
    )
    trained = TrainedRun.open(run.path)
    assert trained.info.preprocess is None
    assert trained.info.data_options == []  # commands find the images without options
    assert trained.dataset.preprocess.channels == 1


# ---------------------------------------------------------------------- notations


@pytest.mark.parametrize(
    ("name", "notation", "params"),
    [
        (
            "autoformer-tiny",
            {
                "RETRAIN": {
                    "MLP_RATIO": [3.5, 3.5, 3.0, 3.5, 3.0, 3.0, 4.0, 4.0, 3.5, 4.0, 3.5, 4.0, 3.5],
                    "NUM_HEADS": [3] * 10 + [4, 3, 3],
                    "DEPTH": 13,
                    "EMBED_DIM": 192,
                }
            },
            5_867_944,
        ),
        (
            "autoformer-small",
            {
                "layer_num": 13,
                "embed_dim": [384] * 13,
                "mlp_ratio": [4, 4, 3.5, 4, 3.5, 4, 3.5, 3.5, 4, 4, 3, 4, 3.5],
                "num_heads": [7, 7, 7, 7, 5, 7, 7, 5, 6, 5, 5, 6, 5],
                "num_params": 22_989_928,
                "score": 0.1,
            },
            22_989_928,
        ),
    ],
)
def test_published_subnets(name: str, notation: dict[str, Any], params: int) -> None:
    space = search_spaces.get(name)
    for source in ("autoformer", "prenas"):
        assert space.params(nas.importing.arch_from_notation(source, space, notation)) == params


def test_notations_that_are_not_in_the_space() -> None:
    space = search_spaces.get("autoformer-tiny")
    notation = {"layer_num": 12, "embed_dim": [192] * 12, "mlp_ratio": 4, "num_heads": [3] * 12}
    read = partial(nas.importing.arch_from_notation, "autoformer")
    assert read(space, notation | {"num_heads": [3] * 14}) == read(space, notation)
    for change, message in (
        ({"embed_dim": [192] * 11 + [216]}, "embed_dim must be the same for all blocks"),
        ({"layer_num": 15}, "layer_num must be one of"),
        ({"num_heads": [3] * 11}, "num_heads must have 12 numbers"),
        ({"num_heads": [5] * 12}, "must be one of"),
        ({"depth": 12}, r"unknown \['depth'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            read(space, notation | change)
    with pytest.raises(ValueError, match="for spaces of the family vit, got 'mbconv'"):
        read(search_spaces.get("digits"), notation)
