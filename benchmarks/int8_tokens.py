"""Latency of INT8 transformers with dynamic ranges of tokens, and with static ranges from calibration images.

python -m benchmarks.int8_tokens deit-tiny vit-small
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime

import search_spaces
from hw_profiles.measuring.runner.device_description import instruction_set
from nas.onnx_backend import onnx_graph
from nas.onnx_backend.precision import INT8, uniform_blocks
from nas.onnx_backend.quantize import assumed_ranges, quantize, scheme
from search_spaces import Block, Space

VISITS = 40
"""Number of times that each model is timed, in turns; the shortest CPU time of one thread is reported."""


def models(space: Space) -> Mapping[str, onnx.ModelProto]:
    """The largest subnet with random weights, in fp32 and by both schemes."""
    blocks: Sequence[Block] = space.blocks(space.largest)
    fp32 = onnx_graph.build(blocks, onnx_graph.random_weights(blocks, np.random.default_rng(0)))
    ranges, int8 = assumed_ranges(fp32), scheme(instruction_set())
    blocks = uniform_blocks(blocks, INT8)
    return {
        "fp32": fp32,
        "dynamic": quantize(fp32, blocks, ranges, replace(int8, tokens="dynamic")),
        "static": quantize(fp32, blocks, ranges, replace(int8, tokens="static")),
    }


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def latencies_ms(space: Space) -> dict[str, float]:
    """Latency of each model."""
    sessions = {name: session(model) for name, model in models(space).items()}
    first = space.blocks(space.largest)[0].inputs[0]
    x = np.random.default_rng(0).standard_normal((1, *first.shape), dtype=np.float32)
    times: dict[str, list[int]] = {name: [] for name in sessions}
    for _ in range(VISITS):
        for name, network in sessions.items():
            for _ in range(2):  # the first run after the other models has a cold cache
                begin = time.thread_time_ns()
                network.run(None, {onnx_graph.INPUT: x})
            times[name].append(time.thread_time_ns() - begin)
    return {name: min(values) / 1e6 for name, values in times.items()}


def main() -> None:
    """Print the latencies as a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spaces", nargs="+", metavar="SPACE")
    print(f"One thread, {instruction_set()}, ONNX Runtime {onnxruntime.__version__}, ms\n")
    print("| largest subnet of | fp32 | dynamic | static |\n| --- | --- | --- | --- |")
    for name in parser.parse_args().spaces:
        cells = [f"{ms:.2f}" for ms in latencies_ms(search_spaces.get(name)).values()]
        print(f"| `{name}` | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
