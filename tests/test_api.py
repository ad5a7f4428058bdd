"""The public Python API and its page."""

from __future__ import annotations

import ast
import doctest
from importlib import import_module
from pathlib import Path

import pytest
from conftest import make_measuring_quick, make_search_quick

ROOT = Path(__file__).parents[1]
PACKAGES = ("nas", "nas.importing", "search_spaces", "hw_profiles", "predictors")


@pytest.mark.parametrize("package", PACKAGES)
def test_names_that_type_checkers_see_are_those_that_are_imported(package: str) -> None:
    tree = ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text(encoding="utf-8"))
    exports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    module = import_module(package)
    for node in exports:
        for name in node.names:
            if name.asname:  # `import X as X` exports it
                at_home = getattr(import_module(str(node.module)), name.name)
                assert getattr(module, name.name) is at_home
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.slow
def test_examples_of_the_page_run(monkeypatch: pytest.MonkeyPatch) -> None:
    make_measuring_quick(monkeypatch)
    make_search_quick(monkeypatch, measured=False)
    page = ROOT / "docs" / "api.md"
    result = doctest.testfile(str(page), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted
    assert not result.failed
