"""The commands that messages, help and reports name are commands as the tool accepts them."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import typer

import hw_profiles
import nas
from nas.cli.main import app

TEXT = re.compile(r"`nas ([^`]+)`|^nas ([^`]+)$")
COMMANDS = typer.main.get_command(app)


def text_of(node: ast.expr) -> str | None:
    """A string as far as it is known; what is computed is one word."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or "WORD" for part in node.values)
    return None


def called(node: ast.Call) -> str | None:
    """The command of a call of `command` or `profile_command`."""
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name == "command":
        parts = [text_of(part) or "WORD" for part in node.args if not isinstance(part, ast.Starred)]
        return " ".join(shlex.quote(part) for part in parts)
    return "profile WORD --device WORD" if name == "profile_command" else None


def named() -> Iterator[tuple[str, str]]:
    """File and command, without `nas`."""
    for folder in (nas, hw_profiles):
        for path in Path(folder.__file__ or "").parent.rglob("*.py"):
            if path.name in ("command.py", "commands.py", "external_tool.py"):  # commands of any name
                continue
            nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
            places = (node for node in nodes if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef))
            docs = {ast.get_docstring(place, clean=False) for place in places}
            inside = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
            for node in nodes:
                if isinstance(node, ast.Call) and (found := called(node)):
                    yield path.name, found
                elif isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in inside:
                    text = text_of(node)
                    matches = TEXT.finditer(text) if text and text not in docs else ()
                    yield from ((path.name, m[1] or m[2]) for m in matches if m[2] != "--help")


def fault(text: str) -> str | None:
    """Why the command line rejects a command; None if it accepts it."""
    name, *arguments = shlex.split(text)
    try:
        command = COMMANDS.commands[name]  # type: ignore[attr-defined]
        while hasattr(command, "commands") and arguments:
            name, *arguments = arguments
            command = command.commands[name]
        if arguments:  # a name alone is a mention
            command.make_context(name, arguments)
    except (KeyError, typer.TyperException) as error:
        return repr(error)
    return None


def test_every_named_command_is_complete() -> None:
    found = set(named())
    assert {"export_run.py", "run_dir.py", "reproduce.py", "train.py"} <= {file for file, _ in found}
    assert {(file, text): why for file, text in found if (why := fault(text))} == {}
    assert fault("profile WORD")  # --device is missing
