"""How files are written and read: whole, with the modes that the umask asks for, and in one encoding."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Nas, assert_refused

from hw_profiles.atomic_write import replace_file

ROOT = Path(__file__).parents[1]
FOLDERS = ("nas", "hw_profiles", "search_spaces", "predictors", "benchmarks")


@pytest.mark.skipif(os.name != "posix", reason="elsewhere a folder in use cannot be removed")
def test_message_about_a_removed_current_folder(
    nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert_refused(nas("describe", "digits"), "the current folder no longer exists")
    monkeypatch.chdir(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_modes_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        for content in ("new", b"replaced"):
            replace_file(tmp_path / "folder" / "file", content)
            assert (tmp_path / "folder" / "file").stat().st_mode & 0o777 == mode
    finally:
        os.umask(before)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["file"]


def test_an_error_names_the_file_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file" / "inside").mkdir(parents=True)  # a folder in place of the file
    with pytest.raises(OSError, match="file") as caught:
        replace_file(tmp_path / "file", "text")
    assert caught.value.filename == str(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def _without_encoding(call: ast.Call) -> bool:
    """Whether a call reads or writes text in the encoding of the locale, where the linter does not see it."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    given = {keyword.arg for keyword in call.keywords}
    if name in ("read_text", "write_text"):
        of_a_path = len(call.args) == (
            name == "write_text"
        )  # the methods of a run take its file's name first
        return of_a_path and "encoding" not in given
    return (
        bool(given & {"text", "universal_newlines"}) and "encoding" not in given and name in ("run", "Popen")
    )


def test_text_has_an_encoding_everywhere() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and _without_encoding(node)
    ]
    assert found == []


def test_names_beyond_ascii_work_in_an_ascii_locale(tmp_path: Path) -> None:
    """A recipe and a space with accents are read, and tables are printed, whatever the locale can show."""
    space = (ROOT / "search_spaces" / "digits.yaml").read_text(encoding="utf-8")
    folder = tmp_path / "größe"
    folder.mkdir()
    (folder / "é.yaml").write_text(space.replace("name: digits", "name: größe"), encoding="utf-8")
    (folder / "recipe.yaml").write_text(
        f"# é\nspace: {folder / 'é.yaml'}\ndata: {{dataset: digits}}\nepochs: 1\n", encoding="utf-8"
    )
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment |= {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    script = (
        "import sys; from nas.cli.main import main; from nas.recipes.recipe import load\n"
        "assert load(sys.argv.pop()).space.endswith('\\xe9.yaml'); main()"
    )
    command = [sys.executable, "-c", script, "describe", str(folder / "é.yaml"), str(folder / "recipe.yaml")]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "gr\\xf6\\xdfe: " in done.stdout.decode("ascii")
