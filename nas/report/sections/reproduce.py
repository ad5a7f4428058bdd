"""Commands that reproduce the results of a run."""

from __future__ import annotations

import shlex

from nas.report.data import ReportData
from nas.report.markup import Html, code, join, paragraph, section
from nas.runs.records import Imported
from search_spaces import Space
from search_spaces.families.traced import TracedSpace


def commands(data: ReportData) -> Html:
    """Commands that reproduce the results."""
    name = shlex.quote(data.profile["name"]) if data.profile else "NAME"
    origin = paragraph("RUN is the directory of this run, NEW that of a new run.")
    first = "nas train --config RUN/recipe.yaml --out NEW"
    if data.run.imported:
        origin = paragraph("CHECKPOINT is the file with the weights, NEW the directory of a new run.")
        first = _import_command(data.run.imported, data.space)
    lines = [first, "nas evaluate NEW", "nas export NEW", "nas report NEW"]
    if data.run.arch:
        origin = join([origin, paragraph("The recipe names the run whose weights the training starts from.")])
    else:
        lines[2:2] = [f"nas profile NEW --device {name}", f"nas search NEW --device {name}"]
    versions = ", ".join(f"{package} {version}" for package, version in data.run.versions.items())
    seeds = f"seed {data.run.seed}, split seed {data.run.split_seed}"
    return section(
        "Reproduce",
        origin,
        code("\n".join(lines)),
        paragraph(f"{seeds}; {versions}."),
    )


def _import_command(imported: Imported, space: Space) -> str:
    words = ["nas", "import", imported.source]
    if isinstance(space, TracedSpace):
        words.append(shlex.quote(space.config.origin))
        words += ["--weights", "CHECKPOINT"] if imported.checkpoint else []
    else:
        words += ["CHECKPOINT"]
        name = shlex.quote(space.name) if imported.source == "ofa" else "RUN/space.yaml"
        words += [] if imported.source == "attentivenas" else ["--space", name]
    return " ".join([*words, "--out", "NEW", "--data-root", "FOLDER"])
