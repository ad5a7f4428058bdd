"""Numbers on the command line: each option has a range, and what is outside ends with one line."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from nas.cli.main import app, main

FLOATS = {"minutes"}
"""Options with fractions; `search_run` checks their range, since NaN passes any comparison."""
CHECKED_ELSEWHERE = {"resolution"}
"""Numbers that have to be among those of the space."""


def numbers(command: object, path: str = "") -> Iterator[tuple[str, str, object]]:
    """Each option of a number: the command, its name, its type."""
    for name, sub in getattr(command, "commands", {}).items():
        yield from numbers(sub, f"{path} {name}")
    for option in getattr(command, "params", []):
        if option.type.name.startswith(("integer", "float")):
            yield path, option.name, option.type


def test_every_number_has_a_least_value() -> None:
    found = list(numbers(typer.main.get_command(app)))
    assert len(found) > 15
    open_ended = {name for _, name, kind in found if getattr(kind, "min", None) is None}
    assert open_ended == FLOATS | CHECKED_ELSEWHERE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "run", "--device", "d", "--budget", "0"], "'--budget': 0 is not in the range x>=1"),
        (["search", "run", "--device", "d", "--budget", "-5"], "'--budget': -5 is not in the range"),
        (["search", "run", "--device", "d", "--budget", "nan"], "'--budget': 'nan' is not a valid integer"),
        (["search", "run", "--device", "d", "--minutes", "soon"], "'--minutes': 'soon' is not a valid float"),
        (["search", "run", "--device", "d", "--seed", "99999999999"], "'--seed': 99999999999 is not in"),
        (["evaluate", "run", "--samples", "0"], "'--samples': 0 is not in the range x>=1"),
        (["evaluate", "run", "--calibration-images", "1"], "'--calibration-images': 1 is not in the range"),
        (["train", "--config", "digits", "--out", "o", "--split-seed", "-1"], "'--split-seed': -1 is not"),
        (["profile", "digits", "--device", "d", "--batch", "0"], "'--batch': 0 is not in the range x>=1"),
        (["train", "--config", "digits", "--out", "o", "--set", "lr=.inf"], "lr: .* finite number, got inf"),
    ],
)
def test_number_out_of_range_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["nas", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line
    assert not list(tmp_path.iterdir())
