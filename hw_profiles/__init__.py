"""Devices and their measured latency."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from hw_profiles.device import Device as Device
    from hw_profiles.profile import DeviceProfile as DeviceProfile
    from hw_profiles.run_settings import RunSettings as RunSettings
    from hw_profiles.store import ProfileStore as ProfileStore
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "DeviceProfile": "hw_profiles.profile",
            "RunSettings": "hw_profiles.run_settings",
            "Device": "hw_profiles.device",
            "ProfileStore": "hw_profiles.store",
        },
    )
