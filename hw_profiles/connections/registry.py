"""All kinds of connections, by the `kind` in a profile."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hw_profiles.connections.adb import Adb
from hw_profiles.connections.external_tool import Command
from hw_profiles.connections.local import Local
from hw_profiles.connections.offline_bundle import OfflineBundle
from hw_profiles.connections.ssh import Ssh

AnyConnection = Annotated[Local | Ssh | Adb | OfflineBundle | Command, Field(discriminator="kind")]
