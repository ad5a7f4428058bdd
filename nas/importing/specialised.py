"""Loading of OFA's specialised networks: folders with `net.config`, `run.config` and the weights `init`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nas.importing.fit import read_as
from nas.importing.published_names import (
    MBCONV,
    MOBILENET_V3_ENDS,
    PROXYLESS_ENDS,
    RESNET,
    network_modules,
)
from nas.torch_backend.static import StaticNet
from search_spaces import BLOCK_INPUT, Block
from search_spaces.building import BlockBuilder, make_divisible
from search_spaces.families.mbconv import mbconv
from search_spaces.families.resnet import bottleneck, stem_pool
from search_spaces.operators import Add
from search_spaces.tensors import image

Config = Mapping[str, Any]
Writer = Callable[[BlockBuilder], None]

_ACTIVATIONS: dict[str | None, str] = {
    None: "none",
    "relu": "relu",
    "relu6": "relu6",
    "h_swish": "hard_swish",
    "h_sigmoid": "hard_sigmoid",
}


def load_specialised(folder: str | Path) -> tuple[StaticNet, tuple[Block, ...]]:
    """Load the network of a folder.

    Returns:
        the network in eval mode, and its blocks.

    Raises:
        ValueError: a file is missing or damaged, or the kind of network is not supported.
    """
    folder = Path(folder)
    config, resolution = _read(folder / "net.config"), _read(folder / "run.config").get("image_size")
    kind = str(config.get("name"))
    if kind not in NETWORKS:
        raise ValueError(f"{folder}: the network must be one of {sorted(NETWORKS)}, got {kind!r}")
    if not isinstance(resolution, int):
        raise ValueError(f"{folder / 'run.config'} must give image_size in pixels, got {resolution!r}")
    try:
        network = NETWORKS[kind](config)
        blocks = _blocks(network, config, resolution)
    except (KeyError, TypeError) as error:
        reason = f"{type(error).__name__} {error}"
        raise ValueError(f"{folder / 'net.config'} does not describe a {kind}: {reason}") from None
    net = StaticNet(blocks)
    own = net.state_dict()
    counters = {name: torch.tensor(0) for name in own if name.endswith("num_batches_tracked")}
    weights = read_as(folder / "init", {n: own[n] for n in own.keys() - counters.keys()}, network.modules)
    net.load_state_dict(weights | counters)
    return net.eval(), tuple(blocks)


def _read(path: Path) -> Config:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must contain a JSON object, got {type(content).__name__}")
    return content


@dataclass(frozen=True)
class Network:
    """Description of a network."""

    channels: int
    """Number of channels of its images."""
    writers: Mapping[str, Writer]
    """Functions that build the blocks, in order, by the name of the block in this toolkit."""
    modules: Mapping[str, str]
    """As for `nas.importing.published_names.published_name`."""


def _blocks(network: Network, config: Config, resolution: int) -> list[Block]:
    """The blocks in order, without empty blocks."""
    spec = image(network.channels, resolution)
    blocks = []
    for name, write in network.writers.items():
        block = BlockBuilder(name, spec, norm_eps=config["bn"]["eps"])
        write(block)
        spec = block.spec(block.last)
        if block.last != BLOCK_INPUT:
            blocks.append(block.build())
    return blocks


def _mbconv_network(
    head: Callable[[Config, BlockBuilder], None], ends: Mapping[str, str], config: Config
) -> Network:
    stem = config["first_conv"]
    blocks = {f"body.{i}": partial(_block, content) for i, content in enumerate(config["blocks"])}
    writers = {"stem": partial(_conv, "conv", stem), **blocks, "head": partial(head, config)}
    return Network(stem["in_channels"], writers, network_modules(MBCONV, ends, list(blocks)))


def _resnet_network(config: Config) -> Network:
    writers: dict[str, Writer] = {}
    ends = {"head.classifier": "classifier.linear"}
    for i, content in enumerate(config["input_stem"]):
        residual = content["name"] == "ResidualBlock"
        writers[f"stem.{i}"] = partial(_residual, content) if residual else partial(_conv, "conv", content)
        ends[f"stem.{i}.conv"] = f"input_stem.{i}.conv" + ".conv" * residual
    blocks = {f"body.{i}": partial(_bottleneck, content) for i, content in enumerate(config["blocks"])}
    writers |= {"stem.pool": stem_pool, **blocks, "head": partial(_classifier, config)}
    channels = config["input_stem"][0]["in_channels"]
    return Network(channels, writers, network_modules(RESNET, ends, list(blocks)))


def _block(config: Config, block: BlockBuilder) -> None:
    """An MBConv block with its shortcut; empty if its convolution is null or a `ZeroLayer`."""
    conv = config["conv"] if "conv" in config else config["mobile_inverted_conv"]
    if conv is None or conv["name"] == "ZeroLayer":
        return
    c_in, expand = conv["in_channels"], conv["expand_ratio"]
    mid = conv.get("mid_channels") or round(c_in * expand)
    mbconv(
        block,
        conv["out_channels"],
        mid=None if expand == 1 else mid,
        kernel=conv["kernel_size"],
        stride=conv["stride"],
        activation=_ACTIVATIONS[conv["act_func"]],
        se_hidden=make_divisible(mid // 4, 8) if conv["use_se"] else None,
        se_gate="hard_sigmoid",
    )
    shortcut = config["shortcut"]
    if shortcut is not None and shortcut["name"] != "ZeroLayer":
        block.combine(Add(), "shortcut", BLOCK_INPUT, block.last)


def _conv(name: str, config: Config, block: BlockBuilder) -> None:
    block.conv(
        name,
        config["out_channels"],
        kernel=config["kernel_size"],
        stride=config["stride"],
        activation=_ACTIVATIONS[config["act_func"]],
    )


def _residual(config: Config, block: BlockBuilder) -> None:
    _conv("conv", config["conv"], block)
    block.combine(Add(), "shortcut", BLOCK_INPUT, block.last)


def _bottleneck(config: Config, block: BlockBuilder) -> None:
    if config["downsample_mode"] != "avgpool_conv":
        raise ValueError(f"downsample_mode must be avgpool_conv, got {config['downsample_mode']!r}")
    c_in, width, stride = config["in_channels"], config["out_channels"], config["stride"]
    bottleneck(block, width, mid=config["mid_channels"], stride=stride, projected=stride > 1 or c_in != width)


def _classifier(config: Config, block: BlockBuilder) -> None:
    block.pooled_features("pool")
    block.linear("classifier", config["classifier"]["out_features"], bias=True)


def _proxyless_head(config: Config, block: BlockBuilder) -> None:
    _conv("conv", config["feature_mix_layer"], block)
    _classifier(config, block)


def _mobilenet_v3_head(config: Config, block: BlockBuilder) -> None:
    mix = config["feature_mix_layer"]
    _conv("conv", config["final_expand_layer"], block)
    block.pooled_features("pool")
    block.linear("mix", mix["out_channels"], activation=_ACTIVATIONS[mix["act_func"]])
    block.linear("classifier", config["classifier"]["out_features"], bias=True)


NETWORKS: Mapping[str, Callable[[Config], Network]] = {
    "MobileNetV3": partial(_mbconv_network, _mobilenet_v3_head, MOBILENET_V3_ENDS),
    "ProxylessNASNets": partial(_mbconv_network, _proxyless_head, PROXYLESS_ENDS),
    "ResNets": _resnet_network,
}
"""Supported kinds of networks by their name in `net.config`."""
