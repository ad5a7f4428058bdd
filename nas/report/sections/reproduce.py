"""Commands that reproduce the results of a run."""

from __future__ import annotations

import shlex

from nas.report.data import ReportData
from nas.report.markup import Html, code, paragraph, section
from nas.runs.commands import command, data_options
from nas.runs.files import SPACE
from nas.runs.records import Imported, RunInfo
from search_spaces import Space
from search_spaces.families.traced import TracedSpace


def commands(data: ReportData) -> Html:
    """Commands that reproduce the results."""
    run = data.run
    placeholders = {"RUN": "the directory of this run", "NEW": "the directory of a new run"}
    first = "nas train --config RUN/recipe.yaml --out NEW"
    if run.imported:
        first = _import_command(run, run.imported, data.space)
        placeholders |= {
            "CHECKPOINT": "the file with the weights",
            "FOLDER": "the folder of the images",
            "CLASSES": "the list of the classes",
        }
    device = data.profile["name"] if data.profile else "NAME"
    options = data_options(run.dataset)
    lines = [first, command("evaluate", "NEW", *options)]
    searchable = not run.arch and (run.imported is None or run.imported.subnets_trained)
    if searchable:
        lines.append(command("profile", "NEW", "--device", device))
        lines.append(command("search", "NEW", "--device", device, *options))
    subnet = [] if searchable or run.arch else ["--arch", "largest"]
    lines.append(command("export", "NEW", *subnet, *options))
    lines.append(command("report", "NEW", *options))
    used = [f"{word} is {meaning}" for word, meaning in placeholders.items() if word in "\n".join(lines)]
    notes = [paragraph(f"{', '.join(used)}.")]
    if run.arch:
        notes.append(paragraph("The recipe contains the run whose weights are the start of the training."))
    versions = ", ".join(f"{package} {version}" for package, version in run.versions.items())
    return section(
        "Reproduce",
        *notes,
        code("\n".join(lines)),
        paragraph(f"seed {run.seed}, split seed {run.split_seed}; {versions}."),
    )


def _import_command(run: RunInfo, imported: Imported, space: Space) -> str:
    words = ["nas", "import", imported.source]
    if isinstance(space, TracedSpace):
        words.append(space.config.origin)
        words += ["--weights", "CHECKPOINT"] if imported.checkpoint else []
    else:
        words.append("CHECKPOINT")
        if "--space" not in imported.options and imported.source != "attentivenas":
            words += ["--space", space.name if imported.source == "ofa" else f"RUN/{SPACE}"]
    folder = ["--data-root", "FOLDER"] if run.data_root or run.data_fingerprint is None else []
    return shlex.join([*words, *imported.options, "--out", "NEW", *folder])
