"""Checks that the packages the runner needs are installed. It comes first in the joined file."""

from __future__ import annotations

import importlib
import sys


def exit_if_packages_are_missing() -> None:
    """Exit with one line that says how to install numpy and onnxruntime."""
    for name in ("numpy", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            sys.exit(f"{error}; on this device: {sys.executable} -m pip install numpy onnxruntime")


if __name__ == "__main__":
    exit_if_packages_are_missing()
