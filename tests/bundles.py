"""Small bundles for the tests of the runner and of connections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from hw_profiles.measuring.bundle import BundleContent, write_bundle
from hw_profiles.run_settings import RunSettings
from nas.devices.check_images import noise_images
from nas.devices.device_graphs import TimedGraph, bundled
from search_spaces import Block
from search_spaces.building import BlockBuilder
from search_spaces.operators import Conv2d
from search_spaces.tensors import image

TRIALS = 4 + 4 + 1 + 8
"""Number of trials of all models of `make_bundle`."""


def network(channels: int) -> tuple[Block, ...]:
    """One convolution; with 6 or more channels (9 * 36 = 324 weights) its weights are made on the device."""
    block = BlockBuilder("b", image(channels, 4))
    block.add(Conv2d.same(channels, 3), "conv")
    return (block.build(),)


def make_bundle(folder: Path, seed: int = 0, settings: RunSettings | None = None, repeats: float = 0) -> Path:
    """Two small graphs, a network that runs alone and is checked on images, and a sentinel."""
    settings = settings or RunSettings()
    graphs = [
        TimedGraph("small", network(2), 4),
        TimedGraph("big", network(6), 4),
        TimedGraph("net", network(8), 1, alone=True, images="noise"),
        TimedGraph("sentinel", network(4), 8),
    ]
    models, weights = bundled(graphs, settings, np.random.default_rng(0))
    images = {"noise": noise_images(8, 4)}
    content = BundleContent(
        models, settings, weights, images, sentinel="sentinel", repeats=repeats, seed=seed
    )
    write_bundle(folder, content)
    return folder


def onnx_metadata(path: Path) -> dict[str, str]:
    """The metadata of an ONNX file."""
    return {pair.key: pair.value for pair in onnx.load(path).metadata_props}


def ignore(done: int, total: int) -> None:
    """Show no progress."""
