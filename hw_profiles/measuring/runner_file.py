"""Joins the modules of the runner into the one file that a device gets."""

from __future__ import annotations

import ast
from functools import cache
from importlib import resources

RUNNER = "runner.py"
"""Name of the joined file."""
PACKAGE = "hw_profiles.measuring.runner"
MODULES = (
    "requirements",
    "errors",
    "bundle_files",
    "providers",
    "system_files",
    "process_limits",
    "affinity",
    "estimator",
    "speed_probe",
    "inputs",
    "placement",
    "model",
    "alone",
    "device_description",
    "energy",
    "weights",
    "journal",
    "lock",
    "summary",
    "bundle",
    "command_line",
)
"""The modules in the order of the joined file; each imports only earlier modules."""

_HEADER = '''\
"""Times ONNX models on a device. It needs Python 3.8 or later, numpy and onnxruntime.

    python runner.py BUNDLE        does the work that BUNDLE/job.json describes

A model is timed in several trials. A trial is either one session in this process (small graphs) or a fresh
process with the model alone (whole networks); the latter gives the figure that the toolkit calls
`latency_ms`. All trials are shuffled, so that a slow moment of the machine affects all models alike. Every
finished trial is a line of BUNDLE/trials.jsonl: a runner that was stopped continues after the last complete
line. BUNDLE/results.json, written at the end, adds the identity of the device, how steady it was, and the
outputs of the models for the images of the bundle.
"""

from __future__ import annotations
'''


@cache
def runner_source() -> str:
    """The source of the joined file: the modules one after the other, without their imports of each other."""
    return "\n\n".join([_HEADER.strip(), *map(_module_source, MODULES)]) + "\n"


def _module_source(name: str) -> str:
    text = (resources.files(PACKAGE) / f"{name}.py").read_text(encoding="utf-8")
    lines = text.splitlines()
    removed: set[int] = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom) and _is_replaced(node.module or ""):
            removed |= set(range(node.lineno - 1, node.end_lineno or node.lineno))
    rest = "\n".join(line for i, line in enumerate(lines) if i not in removed)
    return f"# {'-' * 70} {name}\n\n{rest.strip()}"


def _is_replaced(module: str) -> bool:
    return module == "__future__" or module.startswith(f"{PACKAGE}.")
