"""A run directory: how it is made, opened and divided into folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import search_spaces
from nas.runs.commands import command
from nas.runs.files import EXPORTS, LAST_SEARCH, LOCK, RECIPE, RUN, SEARCH, SEARCHES, SPACE
from nas.runs.folder import Folder
from nas.runs.records import RunInfo
from search_spaces import Space


class RunDir(Folder):
    """A run directory.

    Args:
        path: the folder; `create` makes it, `open` wants it to be a run.
    """

    @classmethod
    def create(
        cls,
        path: str | Path,
        info: RunInfo,
        space: Space,
        recipe: str,
        others: Mapping[str, bytes] = MappingProxyType({}),
    ) -> RunDir:
        """Start a run in a missing or empty folder, or one in which a kill interrupted this function.

        Args:
            path: the folder.
            info: how the run is made.
            space: of its subnets.
            recipe: YAML text.
            others: contents of further files, by name.

        Raises:
            ValueError: the folder holds something already.
        """
        cls.check_free(path)
        run = cls(path)
        run.write_json(RUN, info)  # first, to distinguish an interrupted start from a user's own YAML files
        run.write_text(SPACE, space.to_yaml())
        for name, content in others.items():
            run.write_bytes(name, content)
        run.write_text(RECIPE, recipe)
        return run

    @staticmethod
    def check_free(path: str | Path) -> None:
        """Check that a run can be started in a folder, as `create` does.

        Raises:
            ValueError: the folder holds something already.
        """
        path = Path(path)
        if path.exists() and not (path.is_dir() and _is_free(path)):
            raise ValueError(
                f"the run directory {path} must be missing or empty; give another --out, or --resume to go on"
            )

    @classmethod
    def open(cls, path: str | Path) -> RunDir:
        """An existing run.

        Raises:
            ValueError: the folder is missing or no run.
        """
        run = cls(path)
        if not run.created:
            raise ValueError(
                f"{path} is not a run directory (no {RUN} and {RECIPE} in it); `nas train` makes one"
            )
        return run

    @property
    def created(self) -> bool:
        """Whether the folder is a run: the first file of `create` is there, and the last one."""
        return self.has(RUN) and self.has(RECIPE)

    def info(self) -> RunInfo:
        """How the run was made."""
        return self.read_model(RUN, RunInfo)

    def space(self) -> Space:
        """The space of the run, as it was when the run began."""
        space = search_spaces.parse(self.read_text(SPACE), source=str(self.path / SPACE))
        space.source = str(self.path)
        return space

    @property
    def last_device(self) -> str | None:
        """The device that the run was last searched for, None before the first search."""
        return str(self.read_json(LAST_SEARCH)["device"]) if self.has(LAST_SEARCH) else None

    def searched(self) -> list[str]:
        """Names of the devices that the run was searched for."""
        return sorted(path.parent.name for path in self.file(SEARCHES).glob(f"*/{SEARCH}"))

    def search(self, device: str | None = None) -> Folder:
        """Results of the search for a device, by default for the last one that was searched.

        Raises:
            ValueError: the run was not searched for it.
        """
        name = device or self.last_device
        search = command("search", self.path, "--device", name or "NAME")
        if name is None:
            raise ValueError(f"the run {self.path} was not searched yet; `{search}` does it")
        searched = self.searched()
        if name not in searched:
            raise ValueError(
                f"the run {self.path} was not searched for the device {name!r} (searched: "
                f"{', '.join(searched) or 'none'}); `{search}` does it"
            )
        return Folder(self.file(SEARCHES) / name)

    def exports(self, device: str | None, out: Path | None = None) -> Folder:
        """The folder of files that are exported for a device, or for none; with `out` that folder."""
        return Folder(out or self.file(EXPORTS) / (device or ""))

    def start_search(self, device: str) -> Folder:
        """The folder for new results of a device; older ones no longer count until `SEARCH` is written."""
        folder = Folder(self.file(SEARCHES) / device)
        folder.file(SEARCH).unlink(missing_ok=True)
        return folder

    def finish_search(self, device: str) -> None:
        """Record the device as the one that was searched last."""
        self.write_json(LAST_SEARCH, {"device": device})


def _is_free(folder: Path) -> bool:
    """Whether the folder is empty, or holds an interrupted start of `RunDir.create`."""
    names = {entry.name for entry in folder.iterdir() if not entry.name.startswith(f".{RUN}.")} - {LOCK}
    return not names or (RUN in names and RECIPE not in names)
