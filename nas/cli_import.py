"""The commands `nas import …`: weights that other tools trained become a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nas.supernet import Supernet

app = typer.Typer(
    no_args_is_help=True,
    help="Make a run from a published supernet; nothing in its file is executed. On images in ImageNet's "
    "layout, part of val steers the search and the rest is for the report.",
)

Checkpoint = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="The file of weights.")]
Out = Annotated[Path, typer.Option(help="Run directory to make.")]
Images = Annotated[
    str | None, typer.Option("--dataset", help="Images: a name or module:object.", show_default="imagefolder")
]
DataRoot = Annotated[
    Path | None,
    typer.Option(help="Folder of the images, with train and val in it; may be given to later commands."),
]
SplitSeed = Annotated[int, typer.Option(help="Draw another part of val for the search.")]


@app.command()
def ofa(
    checkpoint: Checkpoint,
    space: Annotated[str, typer.Option(help="Its space, such as ofa-mbv3-w1.0.")],
    out: Out,
    dataset: Images = None,
    data_root: DataRoot = None,
    split_seed: SplitSeed = 0,
) -> None:
    """Import a supernet of Once-for-All (Cai et al. 2020)."""
    from nas.importers import load_ofa

    _import(load_ofa(checkpoint, space), "ofa", checkpoint, out, dataset, data_root, split_seed)


@app.command()
def attentivenas(
    checkpoint: Checkpoint,
    out: Out,
    dataset: Images = None,
    data_root: DataRoot = None,
    split_seed: SplitSeed = 0,
) -> None:
    """Import a supernet of AttentiveNAS or AlphaNet (Wang et al. 2021)."""
    from nas.importers import load_attentivenas

    _import(load_attentivenas(checkpoint), "attentivenas", checkpoint, out, dataset, data_root, split_seed)


def _import(
    supernet: Supernet,
    source: str,
    checkpoint: Path,
    out: Path,
    dataset: str | None,
    data_root: Path | None,
    split_seed: int,
) -> None:
    from nas.import_run import import_run

    run = import_run(
        supernet,
        out,
        source=source,
        checkpoint=checkpoint,
        dataset=dataset,
        data_root=data_root,
        split_seed=split_seed,
    )
    imported = run.info().imported
    assert imported
    later = "" if data_root else " --data-root FOLDER"
    sys.stdout.write(f"{imported.note}\nimported: {out}; next: nas evaluate {out}{later}\n")
