"""Peak memory of activations, by liveness over the layers."""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.layers import BLOCK_INPUT, LayerSpec

BYTES_PER_NUMBER = 4
"""Activations are float32."""


def peak_memory_bytes(layers: Sequence[LayerSpec]) -> int:
    """The most bytes of activations that are alive at once, for one image.

    Layers run in their order. While one runs, its output, its inputs and every earlier output that a later
    layer still reads are alive; the input of the whole is freed after its last use like any other. Batch norm
    and activation change a layer's output in place. Weights and what a kernel needs for itself do not count.

    Only one feature map passes between blocks, so the peak of a network is the largest of its blocks' peaks.

    Args:
        layers: of a network, or of a block.
    """
    last_use = {source: reader for reader, layer in enumerate(layers) for source in layer.inputs}
    numbers = {BLOCK_INPUT: layers[0].c_in * layers[0].size_in ** 2}
    alive, peak = {BLOCK_INPUT}, 0
    for i, layer in enumerate(layers):
        numbers[i] = layer.activations
        alive.add(i)
        peak = max(peak, sum(numbers[tensor] for tensor in alive))
        alive = {tensor for tensor in alive if last_use.get(tensor, i) > i or tensor == i}
    return BYTES_PER_NUMBER * peak
