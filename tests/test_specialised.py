import json
from pathlib import Path
from typing import Any

import numpy as np
import published
import pytest
import torch
from published import agree, images, save

import search_spaces
from nas.importing.importers import load_specialised, load_supernet
from nas.notation.ofa import arch_from_ofa
from nas.torch_backend.supernet import Supernet
from search_spaces import Arch

OFA = sorted(published.OFA_CHANNELS)


def conv_config(c_in: int, c_out: int, kernel: int, stride: int, act: str | None) -> dict[str, Any]:
    return {
        "name": "ConvLayer",
        "in_channels": c_in,
        "out_channels": c_out,
        "kernel_size": kernel,
        "stride": stride,
        "act_func": act,
    }


def net_config(name: str, arch: Arch, old: bool) -> dict[str, Any]:
    """The `net.config` of a subnet as OFA writes it, derived from the format only."""
    first, c = published.OFA_FIRST[name]
    acts = published.OFA_ACTIVATIONS[name]
    residual, conv = (
        ("MobileInvertedResidualBlock", "mobile_inverted_conv") if old else ("ResidualBlock", "conv")
    )
    identity = {"name": "IdentityLayer"}

    def block(c_in: int, c_out: int, k: int, stride: int, e: float, act: str, se: bool) -> dict[str, Any]:
        layer = {
            "name": "MBInvertedConvLayer" if old else "MBConvLayer",
            "in_channels": c_in,
            "out_channels": c_out,
            "kernel_size": k,
            "stride": stride,
            "expand_ratio": e,
            "mid_channels": None if e == 1 else published.divisible(round(c_in * e)),
            "act_func": act,
            "use_se": se,
        }
        shortcut = identity if stride == 1 and c_in == c_out else None
        return {"name": residual, conv: layer, "shortcut": shortcut}

    blocks = [block(first, c, 3, 1, 1, acts[1], False)]
    skipped = {"name": residual, conv: None, "shortcut": identity}
    for s in range(len(published.OFA_CHANNELS[name])):
        channels = published.OFA_CHANNELS[name][s]
        width, se = channels[0][2], bool(channels[0][1])
        for b in range(int(arch[f"stages.{s + 1}.depth"])):
            kernel, expand = (arch[f"stages.{s + 1}.blocks.{b}.{kind}"] for kind in ("kernel", "expand"))
            stride = published.OFA_STRIDES[s] if b == 0 else 1
            blocks.append(block(c, width, int(kernel), stride, int(expand), acts[s + 2], se))
            c = width
        blocks.append(skipped)
    classifier = {"name": "LinearLayer", "in_features": 0, "out_features": 1000, "bias": True}
    pooled, *mixed = published.HEADS[name]
    last = conv_config(c, pooled, 1, 1, acts[-1])
    heads: dict[str, Any] = {"final_expand_layer": last} if mixed else {"feature_mix_layer": last}
    if mixed:
        heads["feature_mix_layer"] = conv_config(pooled, mixed[0], 1, 1, "h_swish")
    return {
        "name": "MobileNetV3" if mixed else "ProxylessNASNets",
        "bn": {"momentum": 0.1, "eps": 1e-5 if mixed else 1e-3},
        "first_conv": conv_config(3, first, 3, 2, acts[0]),
        "blocks": blocks,
        **heads,
        "classifier": classifier,
    }


def write_folder(folder: Path, name: str, supernet: Supernet, arch: Arch, *, old: bool) -> None:
    """A specialised network with the weights of a subnet, renamed according to the format."""
    config = net_config(name, arch, old)
    (folder / "net.config").write_text(json.dumps(config))
    (folder / "run.config").write_text(json.dumps({"image_size": int(arch["resolution"])}))
    conv = "mobile_inverted_conv" if old else "conv"
    places = [i for i, block in enumerate(config["blocks"]) if block[conv] is not None]
    ours = [block.name for block in supernet.space.blocks(arch) if "blocks" in block.name]
    state = {}
    for key, tensor in supernet.extract(arch).state_dict().items():
        for block, place in zip(ours, places, strict=True):
            key = key.replace(f"{block}.", f"blocks.{place}.{conv}.")
        for role, unit in {
            "expand.": "inverted_bottleneck.",
            "depthwise.": "depth_conv.",
            "project.": "point_linear.",
            "stem.conv.": "first_conv.",
            "head.conv.": "final_expand_layer." if "ofa-mbv3" in name else "feature_mix_layer.",
            "head.mix.": "feature_mix_layer.",
        }.items():
            key = key.replace(f".se.{role}", ".depth_conv.se.fc.EXPAND.").replace(role, unit, 1)
        key = key.replace("EXPAND", "expand").replace(".se.reduce.", ".depth_conv.se.fc.reduce.")
        key = key.replace("head.classifier.", "classifier.linear.").replace(".norm.", ".bn.")
        if key.endswith(".weight") and ".bn." not in key and ".se." not in key and "classifier" not in key:
            key = key.replace(".weight", ".conv.weight")
        if key.startswith("feature_mix_layer.conv"):
            tensor = tensor.reshape(*tensor.shape[:2], 1, 1)
        state[key] = tensor
    torch.save({"state_dict": state}, folder / "init")


@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
@pytest.mark.parametrize("name", [OFA[0], *(pytest.param(n, marks=pytest.mark.slow) for n in OFA[1:])])
def test_specialised_networks_are_read(
    name: str, old: bool, tmp_path: Path, rng: np.random.Generator
) -> None:
    supernet = load_supernet("ofa", save(tmp_path / "ofa.pt", published.ofa_state(name)), name)
    space = supernet.space
    arch = space.decode(space.sample(rng, 1))[0]
    write_folder(tmp_path, name, supernet, arch, old=old)
    net, blocks = load_specialised(tmp_path)
    assert not net.training
    assert sum(block.macs for block in blocks) == space.macs(arch)
    assert sum(block.params for block in blocks) == space.params(arch)
    x = images(1, int(arch["resolution"]))
    with torch.no_grad():
        agree(net(x), supernet(x, arch))


RESNET_CODE: dict[str, list[Any]] = {"e": [0.2, 0.25, 0.35] * 6, "w": [1, 2, 0, 1, 2, 1], "r": [148]}


def resnet_config(code: dict[str, list[Any]], middle: bool) -> dict[str, Any]:
    """The `net.config` of a ResNet as OFA writes it, derived from the format only."""
    mid, width = (widths[w] for widths, w in zip(published.RESNET_STEMS, code["w"], strict=False))
    residual = {"name": "ResidualBlock", "conv": conv_config(mid, mid, 3, 1, "relu"), "shortcut": {}}
    stem = [conv_config(3, mid, 3, 2, "relu"), *[residual] * middle, conv_config(mid, width, 3, 1, "relu")]
    blocks, c, start = [], width, 0
    stages = zip(published.RESNET_DEPTHS, published.RESNET_WIDTHS, code["w"][2:], code["d"][1:], strict=True)
    for s, (deepest, widths, w, more) in enumerate(stages):
        for b in range(deepest - 2 + more):
            ratio = code["e"][start + b]
            blocks.append(
                {
                    "name": "ResNetBottleneckBlock",
                    "in_channels": c,
                    "out_channels": widths[w],
                    "stride": 2 if s > 0 and b == 0 else 1,
                    "expand_ratio": ratio,
                    "mid_channels": published.divisible(round(widths[w] * ratio)),
                    "downsample_mode": "avgpool_conv",
                }
            )
            c = widths[w]
        start += deepest
    return {
        "name": "ResNets",
        "bn": {"momentum": 0.1, "eps": 1e-5},
        "input_stem": stem,
        "blocks": blocks,
        "classifier": {"name": "LinearLayer", "in_features": c, "out_features": 1000, "bias": True},
    }


def resnet_weights(supernet: Supernet, arch: Arch) -> dict[str, torch.Tensor]:
    """The weights of a subnet by the names of a specialised ResNet."""
    last = 2 if arch["stem.depth"] == 3 else 1
    units = {
        "stem.0.conv": "input_stem.0",
        "stem.1.conv": "input_stem.1.conv",
        "stem.2.conv": f"input_stem.{last}",
    }
    names = [block.name for block in supernet.space.blocks(arch) if "blocks" in block.name]
    for i, block in enumerate(names):
        units |= {f"{block}.{role}": f"blocks.{i}.{role}" for role in ("conv1", "conv2", "conv3")}
        units[f"{block}.downsample.conv"] = f"blocks.{i}.downsample"
    state = {}
    for key, tensor in supernet.extract(arch).state_dict().items():
        layer, part = key.replace(".norm.", ".").rsplit(".", 1)
        kind = "bn" if ".norm." in key else "conv"
        state[f"{units[layer]}.{kind}.{part}" if layer in units else f"classifier.linear.{part}"] = tensor
    return state


@pytest.mark.slow
@pytest.mark.parametrize("middle", [True, False], ids=["full stem", "skipped"])
def test_specialised_resnets_are_read(middle: bool, tmp_path: Path) -> None:
    supernet = load_supernet("ofa", save(tmp_path / "ofa.pt", published.resnet_state()), "ofa-resnet50")
    code = RESNET_CODE | {"d": [2 * middle, 0, 1, 2, 1]}
    arch = arch_from_ofa(supernet.space, code)
    (tmp_path / "net.config").write_text(json.dumps(resnet_config(code, middle)))
    (tmp_path / "run.config").write_text(json.dumps({"image_size": 148}))
    torch.save({"state_dict": resnet_weights(supernet, arch)}, tmp_path / "init")
    net, blocks = load_specialised(tmp_path)
    assert sum(block.macs for block in blocks) == supernet.space.macs(arch)
    assert sum(block.params for block in blocks) == supernet.space.params(arch)
    x = images(1, 148)
    with torch.no_grad():
        agree(net(x), supernet(x, arch))


def test_other_shortcuts_of_resnets_are_errors(tmp_path: Path) -> None:
    config = resnet_config(RESNET_CODE | {"d": [2] * 5}, middle=True)
    config["blocks"][0]["downsample_mode"] = "conv"
    (tmp_path / "net.config").write_text(json.dumps(config))
    (tmp_path / "run.config").write_text(json.dumps({"image_size": 148}))
    with pytest.raises(ValueError, match="downsample_mode must be avgpool_conv, got 'conv'"):
        load_specialised(tmp_path)


def test_damaged_folders_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*net\.config"):
        load_specialised(tmp_path)
    space = search_spaces.get("ofa-mbv3-w1.0")
    config = net_config("ofa-mbv3-w1.0", space.smallest, old=False)
    run = tmp_path / "run.config"
    for content, run_content, message in (
        ("{", "{}", r"net\.config is not JSON"),
        ("[]", "{}", r"net\.config must contain a JSON object, got list"),
        (
            json.dumps(config | {"name": "VGG"}),
            '{"image_size": 128}',
            "must be one of .*MobileNetV3.* got 'VGG'",
        ),
        (json.dumps(config), "{}", r"run\.config must give image_size"),
        (
            json.dumps(config | {"blocks": [{}]}),
            '{"image_size": 128}',
            "does not describe a MobileNetV3: KeyError",
        ),
        (json.dumps(config), '{"image_size": 128}', "cannot read the checkpoint"),
    ):
        (tmp_path / "net.config").write_text(content)
        run.write_text(run_content)
        with pytest.raises(ValueError, match=message):
            load_specialised(tmp_path)
