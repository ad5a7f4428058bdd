"""Settings of the memory allocator."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from nas.torch_backend.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(5):
    tensors = [torch.ones(8, 256, 1024) for _ in range(20)]  # 20 times 8 MiB, freed together
    del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
def test_freed_memory_is_reused_without_page_faults() -> None:
    faults = {
        mode: int(
            subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, check=True).stdout
        )
        for mode in ("keep", "default")
    }
    assert faults["keep"] < faults["default"]
