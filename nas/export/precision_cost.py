"""Compares a precision below fp32 with fp32, in quality and latency."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hw_profiles.atomic_write import naming
from hw_profiles.connections.base import NotMeasuredError
from nas.tasks import Task

Measure = Callable[[Sequence[Path]], list[float]]
"""Measures the latencies of ONNX files on the target, ms."""
_log = logging.getLogger("nas")


def latencies(contents: Mapping[str, bytes], measure: Measure) -> dict[str, float]:
    """Latencies by precision, ms; empty if the target is measured by an offline bundle.

    Args:
        contents: contents of ONNX files by precision.
        measure: measures files.
    """
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{precision}.onnx" for precision in contents]
        for path, content in zip(paths, contents.values(), strict=True):
            with naming(path):
                path.write_bytes(content)
        try:
            return dict(zip(contents, measure(paths), strict=True))
        except NotMeasuredError:
            return {}


def warn(
    name: str,
    precision: str,
    task: Task,
    metrics: Mapping[str, float],
    fp32_metrics: Mapping[str, float],
    latency_ms: Mapping[str, float],
) -> None:
    """Log a warning if a precision makes the headline metric noticeably worse, or is slower than another.

    Args:
        name: name of the subnet.
        precision: precision of the file.
        task: the task, whose headline metric is compared.
        metrics: metrics in this precision.
        fp32_metrics: metrics in fp32.
        latency_ms: latencies by precision; empty if nothing was measured.
    """
    headline = task.headline
    loss = fp32_metrics[headline.metric] - metrics[headline.metric]
    if task.metrics[headline.metric].direction == "min":
        loss = -loss
    if loss > headline.noticeable:
        shown = f"{100 * loss:.1f} points" if headline.percent else f"{loss:.4g}"
        _log.warning("%s costs %s %s of %s", precision, name, shown, headline.label)
    for other, ms in latency_ms.items():
        if ms < latency_ms[precision]:
            _log.warning(
                "%s is slower than %s here for %s: %.4g ms, %s %.4g ms",
                precision,
                other,
                name,
                latency_ms[precision],
                other,
                ms,
            )
