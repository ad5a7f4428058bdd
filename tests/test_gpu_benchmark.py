"""The benchmark of a GPU, in small settings on the CPU."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY_YAML

from benchmarks.gpu import QUICK, Benchmark, Result, run


@pytest.mark.slow
@pytest.mark.usefixtures("quick_measuring")
def test_each_part_gives_a_result_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY_YAML)
    sizes = replace(QUICK, profiled_space=str(tmp_path / "tiny.yaml"))
    benchmark = Benchmark(torch.device("cpu"), sizes, tmp_path)
    assert run(benchmark, list(benchmark.parts), minutes=60, as_json=True) == 0
    results = {result["part"]: result for result in printed(capsys)}
    assert list(results) == ["training", "loader", "evaluation", "profile"]
    for part, figures in (
        ("training", ("images_per_s", "sandwich_over_static")),
        ("loader", ("images_per_s", "over_bare_decoding", "share")),
        ("evaluation", ("images_per_s", "forward_images_per_s", "over_forward")),
        ("profile", ("mape", "noise_floor")),
    ):
        assert all(results[part][figure] > 0 for figure in figures)
        assert results[part]["limit"]


def test_a_part_that_fails_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: Benchmark) -> Result:
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(Benchmark, "training", fail)
    monkeypatch.setattr(Benchmark, "loader", lambda self: {"images_per_s": 1.0})
    benchmark = Benchmark(torch.device("cpu"), QUICK, tmp_path)
    assert run(benchmark, ["training", "loader"], minutes=60, as_json=True) == 1
    training, loader = printed(capsys)
    assert training["error"] == "RuntimeError: out of memory"
    assert loader["images_per_s"] == 1.0
    assert run(benchmark, ["loader"], minutes=-1, as_json=True) == 1
    assert "not started" in printed(capsys)[0]["error"]


def printed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]
