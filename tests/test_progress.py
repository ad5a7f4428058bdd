import io
import sys
import time

import pytest

from nas.progress import shown


class Clock:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def test_log_gets_first_and_last_line_and_some_between(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with shown() as progress:
        for done in range(41):
            progress("train", done, 40)
            clock.seconds += 1
    # first at 0 s; then each time 10 s have gone by; the last step always
    assert capsys.readouterr().err.splitlines() == [
        "train: 0/40",
        "train: 10/40, 30 s left",
        "train: 20/40, 20 s left",
        "train: 30/40, 10 s left",
        "train: 40/40",
    ]


def test_next_piece_of_work_starts_anew(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with shown() as progress:
        progress("train", 3, 3)
        clock.seconds += 1
        progress("evaluate", 1, 3)
        progress("evaluate", 2, 3)
        progress("evaluate", 3, 3)
    assert capsys.readouterr().err.splitlines() == ["train: 3/3", "evaluate: 1/3", "evaluate: 3/3"]


def test_results_on_standard_output_stay_clean(capsys: pytest.CaptureFixture[str]) -> None:
    with shown() as progress:
        progress("train", 1, 1)
    assert capsys.readouterr().out == ""


def test_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with shown() as progress:
        progress("train", 7, 40)
    assert "train" in terminal.getvalue()
    assert "7/40" in terminal.getvalue()
