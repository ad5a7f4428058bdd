"""The direction of imports, the dependencies and the packages, read from the sources."""

import ast
import configparser
import itertools
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import pytest

from hw_profiles.measuring import runner_file

ROOT = Path(__file__).parent.parent
FOLDERS = ("search_spaces", "predictors", "hw_profiles", "nas")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

OURS = {
    "search_spaces": {"search_spaces"},
    "predictors": {"predictors", "search_spaces"},
    "hw_profiles": {"hw_profiles", "search_spaces"},
    "nas": set(FOLDERS),
}
"""Which of our packages each folder may import."""

THIRD_PARTY = {
    "search_spaces": {"numpy", "pydantic", "pydantic_core", "yaml"},
    "predictors": {"numpy", "pydantic", "scipy", "sklearn", "skops", "threadpoolctl"},
    "hw_profiles": {
        "numpy",
        "onnxruntime",
        "pandas",
        "platformdirs",
        "pydantic",
        "scipy",
        "sklearn",
        "skops",
        "yaml",
    },
}
"""Which other packages each folder may import; `nas` may import all that setup.cfg declares."""

LAYERS = (
    {"search_spaces", "nas.lack_of_memory", "nas.progress", "nas.stopping", "nas.threads"},
    {
        "predictors",
        "hw_profiles",
        "nas.plugins",
        "nas.recipes",
        "nas.torch_backend",
        "nas.onnx_backend",
        "nas.notation",
    },
    {"nas.data", "nas.samplers"},
    {"nas.runs", "nas.tasks"},
    {"nas.training", "nas.evaluation", "nas.devices", "nas.importing"},
    {"nas.search"},
    {"nas.export", "nas.report"},
    {"nas.api", "nas.cli"},
)
"""The parts of the code, lowest first: each imports itself and what lies below it."""

RUNNER = {"numpy", "onnxruntime"}
"""The packages that the device runner may import, apart from the standard library and itself."""

DISTRIBUTIONS = {"PIL": "pillow", "pydantic_core": "pydantic", "sklearn": "scikit-learn", "yaml": "pyyaml"}
"""Distributions that are called otherwise than what they let one import."""


@cache
def imported_names(path: Path) -> frozenset[str]:
    """Dotted names that a file imports, wherever in the file: `a.b.c` for `from a.b import c`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports."""
    return {name.partition(".")[0] for name in imported_names(path)}


def modules_of(path: Path, package: str) -> set[str]:
    """Modules of a package from which a file imports names, wherever in the file."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {module for module in modules if module.partition(".")[0] == package}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def folder_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def violations(paths: Iterable[Path], forbidden: Callable[[Path], set[str]]) -> list[str]:
    """The files with imports that they must not have, one line each."""
    found = {name_of(path): sorted(forbidden(path)) for path in paths}
    return [f"{name} imports {', '.join(names)}" for name, names in found.items() if names]


def test_our_packages_are_imported_downwards_only() -> None:
    assert violations(FILES, lambda path: imported(path) & set(FOLDERS) - OURS[folder_of(path)]) == []


def part_of(module: str) -> str:
    """`nas.search` of `nas.search.select`, `predictors` of `predictors.ridge`."""
    return ".".join(module.split(".")[: 2 if module.startswith("nas.") else 1])


def test_parts_import_downwards_only() -> None:
    def not_below(path: Path) -> set[str]:
        part = part_of(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
        below = set().union(*itertools.takewhile(lambda layer: part not in layer, LAYERS))
        parts = {part_of(name) for name in imported_names(path) if name.partition(".")[0] in FOLDERS}
        return parts - below - {part}

    face = ROOT / "nas" / "__init__.py"  # names what is exported, and imports it when it is used
    assert violations([path for path in FILES if path != face], not_below) == []


def test_folder_imports_only_what_it_may() -> None:
    def not_allowed(path: Path) -> set[str]:
        third_party = imported(path) - set(FOLDERS) - sys.stdlib_module_names
        return third_party - THIRD_PARTY[folder_of(path)]

    assert violations([path for path in FILES if folder_of(path) in THIRD_PARTY], not_allowed) == []


def test_device_runner_imports_only_numpy_onnxruntime_and_earlier_modules() -> None:
    package = "hw_profiles.measuring.runner"
    earlier: set[str] = set()
    for name in runner_file.MODULES:
        path = ROOT.joinpath(*package.split("."), f"{name}.py")
        assert imported(path) <= RUNNER | sys.stdlib_module_names | {"hw_profiles"}
        assert modules_of(path, "hw_profiles") <= {f"{package}.{module}" for module in earlier}
        earlier.add(name)


def test_declared_dependencies_are_those_that_are_imported(setup_cfg: configparser.ConfigParser) -> None:
    required = {re.split("[<>=!~]", line)[0] for line in setup_cfg["options"]["install_requires"].split()}
    modules = {module for path in FILES for module in imported(path)}
    third_party = modules - set(FOLDERS) - sys.stdlib_module_names
    wanted = {DISTRIBUTIONS.get(module, module.replace("_", "-")) for module in third_party}
    assert wanted == required | {"ray"}  # the extra `tensorboard` is imported by torch


def test_every_package_is_listed_and_typed(setup_cfg: configparser.ConfigParser) -> None:
    packages = {name_of(path.parent).replace("/", ".") for path in FILES if path.name == "__init__.py"}
    assert packages == set(setup_cfg["options"]["packages"].split())
    for folder in FOLDERS:
        assert (ROOT / folder / "py.typed").exists()
    bare = {path.parent for path in FILES} - {path.parent for path in FILES if path.name == "__init__.py"}
    assert bare == set()


def test_help_does_not_load_what_is_slow() -> None:
    script = (
        "import sys; from nas.cli.main import main; sys.argv = ['nas', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "slow = {'torch', 'pymoo', 'sklearn', 'scipy', 'pandas', 'onnx', 'onnxruntime'} & set(sys.modules)\n"
        "sys.exit(f'nas --help loads {sorted(slow)}' if slow else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]


def exists(name: str) -> bool:
    """Whether a dotted name is a module or begins with a module and a name in it."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:n])
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if file.is_file():
            return all(part in file.read_text(encoding="utf-8") for part in parts[n : n + 1])
    return False


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_and_names_in_documentation_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    folders = "|".join([*FOLDERS, "tests", "benchmarks", "docs", "notebooks"])
    paths = re.findall(rf"`((?:{folders})/[\w./-]*)`", text)
    names = re.findall(rf"`((?:{'|'.join(FOLDERS)})(?:\.\w+)+)", text)
    names += re.findall(r"python -m (benchmarks\.\w+)", text)
    missing = [path for path in paths if not (ROOT / path).exists()]
    missing += [name for name in names if not exists(name)]
    assert missing == []
