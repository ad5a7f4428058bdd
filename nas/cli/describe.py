"""The commands `nas spaces` and `nas describe`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.arch import find_arch
from nas.cli.options import JsonOption, SeedOption, SpaceOrRun
from nas.cli.output import line, print_json, show

if TYPE_CHECKING:
    from nas.runs.records import Imported
    from search_spaces import Arch, Space


def spaces(as_json: JsonOption = False) -> None:
    """List the shipped search spaces."""
    import search_spaces

    shipped = [search_spaces.get(name) for name in search_spaces.names()]
    rows = [
        {
            "space": space.name,
            "subnets": float(space.n_subnets),
            "resolutions": list(space.resolutions),
            "min_macs": space.macs(space.smallest),
            "max_macs": space.macs(space.largest),
            "description": space.config.description,
        }
        for space in shipped
    ]
    show(rows, as_json)


def describe(
    space: SpaceOrRun,
    arch: Annotated[
        str | None,
        typer.Option(
            help="largest, smallest, random or a JSON or YAML file: show the operators of this arch.",
            show_default=False,
        ),
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Show the stages and the number of subnets of a space, or the operators and costs of one arch."""
    described, imported = _described(space)
    if arch is not None:
        _describe_arch(described, find_arch(described, arch, seed), as_json)
        return
    stages = described.stages()
    totals = {
        "space": described.name,
        "subnets": described.n_subnets,
        "subnets_per_resolution": described.n_subnets // len(described.resolutions),
        "codes_per_resolution": described.n_codes // len(described.resolutions),
        "resolutions": described.resolutions,
        "genes": len(described.genes),
    }
    if as_json:
        weights = {"imported": imported.model_dump()} if imported else {}
        print_json(totals | {"stages": stages} | weights)
        return
    show(stages, False)
    line(
        f"{described.name}: {totals['subnets_per_resolution']:.3e} subnets, {len(described.genes)} genes; "
        f"{described.n_subnets:.3e} with the {len(described.resolutions)} resolution(s) "
        f"{' '.join(map(str, described.resolutions))}"
    )
    if described.n_codes != described.n_subnets:
        line(
            f"The published notation has {totals['codes_per_resolution']:.3e} codes per resolution; "
            f"some of them describe the same network."
        )
    if imported:
        line(imported.note)


def _described(name: str) -> tuple[Space, Imported | None]:
    """The space with this name, file or run, and the origin of the run's weights if they were imported."""
    from nas.runs.open_space import open_space
    from nas.runs.run_dir import RunDir

    return open_space(name), RunDir.open(name).info().imported if Path(name).is_dir() else None


def _describe_arch(space: Space, arch: Arch, as_json: bool) -> None:
    from nas.onnx_backend.file_size import ALL_INT8, BY_PRECISION
    from search_spaces.memory import peak_memory_bytes

    blocks = space.blocks(arch)
    rows = [
        {
            "block": node.block,
            "node": node.name,
            "operator": node.op.token(*node.specs),
            "output": str(node.output),
            "macs": node.macs,
            "params": node.params,
        }
        for block in blocks
        for node in block.nodes
    ]
    totals = {
        "arch_id": arch.id,
        "macs": space.macs(arch),
        "params": space.params(arch),
        "peak_memory_bytes": peak_memory_bytes(space.network(arch)),
        "file_size_bytes": BY_PRECISION.of_file(blocks),
        "int8_file_size_bytes": ALL_INT8.of_file(blocks),
    }
    if as_json:
        print_json(totals | {"arch": json.loads(arch.to_json()), "nodes": rows})
        return
    show(rows, False)
    line(
        f"{arch.id}: {totals['macs']:,} MACs, {totals['params']:,} parameters; "
        f"{totals['peak_memory_bytes']:,} bytes of peak activation memory (fp32, one image); "
        f"ONNX file about {totals['file_size_bytes']:,} bytes, in INT8 {totals['int8_file_size_bytes']:,}"
    )
    line(arch.to_json())
