"""Numbers on the command line: each option has a range, and what is outside ends with one line."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from nas.cli.main import app, main

FLOATS = {"minutes"}
"""Options with fractions; `SearchOptions` checks their range, since NaN passes any comparison."""
CHECKED_ELSEWHERE = {"resolution"}
"""Numbers that have to be among those of the space."""


def numbers(command: Any) -> Iterator[Any]:
    """Each option of a number, of all commands."""
    for sub in getattr(command, "commands", {}).values():
        yield from numbers(sub)
    for option in command.params:
        if option.type_descriptor.annotation in (int, float, list[int], list[float]):
            yield option


def test_every_number_has_a_least_value() -> None:
    found = list(numbers(typer.main.get_command(app)))
    assert len(found) > 15
    open_ended = {option.name for option in found if option.min is None}
    assert open_ended == FLOATS | CHECKED_ELSEWHERE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "run", "--device", "d", "--budget", "0"], "'--budget': Input should be"),
        (["search", "run", "--device", "d", "--budget", "-5"], "'--budget': Input should be"),
        (["search", "run", "--device", "d", "--budget", "nan"], "'--budget': Input should be"),
        (["search", "run", "--device", "d", "--minutes", "soon"], "'--minutes': Input should be"),
        (["search", "run", "--device", "d", "--seed", "99999999999"], "'--seed': Input should be"),
        (["evaluate", "run", "--samples", "0"], "'--samples': Input should be"),
        (["evaluate", "run", "--calibration-images", "1"], "'--calibration-images': Input should be"),
        (
            ["train", "--config", "digits", "--out", "o", "--split-seed", "-1"],
            "'--split-seed': Input should be",
        ),
        (["profile", "digits", "--device", "d", "--batch", "0"], "'--batch': Input should be"),
        (
            ["train", "--config", "digits", "--out", "o", "--set", "optimizer.lr=.inf"],
            "optimizer.lr: .* finite number, got inf",
        ),
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
