"""The run directory and its folders."""

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
        path: the folder; see `create` and `open`.
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
        """Create a run in a missing or empty folder, or in one where this function was interrupted.

        Args:
            path: the folder.
            info: content of `run.json`.
            space: the search space.
            recipe: the recipe as YAML text.
            others: contents of further files, by name.

        Raises:
            ValueError: the folder is not empty.
        """
        cls.check_free(path)
        run = cls(path)
        run.write_json(RUN, info)  # first, to recognize an interrupted start
        run.write_text(SPACE, space.to_yaml())
        for name, content in others.items():
            run.write_bytes(name, content)
        run.write_text(RECIPE, recipe)
        return run

    @staticmethod
    def check_free(path: str | Path) -> None:
        """Check that `create` can use a folder.

        Raises:
            ValueError: the folder is not empty.
        """
        path = Path(path)
        if path.exists() and not (path.is_dir() and _is_free(path)):
            raise ValueError(
                f"the run directory {path} must be missing or empty; give another --out, or add --resume"
            )

    @classmethod
    def open(cls, path: str | Path) -> RunDir:
        """Open an existing run.

        Raises:
            ValueError: the folder does not exist or is not a run.
        """
        run = cls(path)
        if not run.created:
            raise ValueError(
                f"{path} is not a run directory (no {RUN} and {RECIPE} in it); `nas train` creates one"
            )
        return run

    @property
    def created(self) -> bool:
        """Whether the folder is a run: it has the first and the last file of `create`."""
        return self.has(RUN) and self.has(RECIPE)

    def info(self) -> RunInfo:
        """How the run was made."""
        return self.read_model(RUN, RunInfo)

    def space(self) -> Space:
        """The space of the run."""
        space = search_spaces.parse(self.read_text(SPACE), source=str(self.path / SPACE))
        space.source = str(self.path)
        return space

    @property
    def last_device(self) -> str | None:
        """The device of the last search, or None before the first search."""
        return str(self.read_json(LAST_SEARCH)["device"]) if self.has(LAST_SEARCH) else None

    def searched(self) -> list[str]:
        """Names of all devices that the run was searched for."""
        return sorted(path.parent.name for path in self.file(SEARCHES).glob(f"*/{SEARCH}"))

    def search(self, device: str | None = None) -> Folder:
        """Folder of the search results for a device, by default that of the last search.

        Raises:
            ValueError: the run was not searched for the device.
        """
        name = device or self.last_device
        search = command("search", self.path, "--device", name or "NAME")
        if name is None:
            raise ValueError(f"the run {self.path} was not searched yet; run `{search}`")
        searched = self.searched()
        if name not in searched:
            raise ValueError(
                f"the run {self.path} was not searched for the device {name!r} (searched: "
                f"{', '.join(searched) or 'none'}); run `{search}`"
            )
        return Folder(self.file(SEARCHES) / name)

    def exports(self, device: str | None, out: Path | None = None) -> Folder:
        """The folder of the files exported for a device, or for no device; `out` overrides it."""
        return Folder(out or self.file(EXPORTS) / (device or ""))

    def start_search(self, device: str) -> Folder:
        """The folder for new search results of a device; earlier results become invalid."""
        folder = Folder(self.file(SEARCHES) / device)
        folder.file(SEARCH).unlink(missing_ok=True)
        return folder

    def finish_search(self, device: str) -> None:
        """Record the device of the last search."""
        self.write_json(LAST_SEARCH, {"device": device})


def _is_free(folder: Path) -> bool:
    """Whether the folder is empty except for files of an interrupted `RunDir.create`."""
    names = {entry.name for entry in folder.iterdir() if not entry.name.startswith(f".{RUN}.")} - {LOCK}
    return not names or (RUN in names and RECIPE not in names)
