"""How many CPU cores this process may use, which in a container is often fewer than the machine has.

The functions are part of the runner, which works on devices as a single file.
"""

from __future__ import annotations

from hw_profiles.measuring.runner import cpu_quota, usable_cores

__all__ = ["cpu_quota", "usable_cores"]
