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


def test_progress_of_the_next_operation_starts_at_zero(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
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


def test_lines_every_so_many_steps(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with shown(every=3) as progress:
        for done in range(1, 9):
            clock.seconds += 60
            progress("train", done, 8)
    lines = capsys.readouterr().err.splitlines()
    # 60 s a step: 5 steps are left after the third, 2 after the sixth
    assert lines == ["train: 1/8", "train: 3/8, 300 s left", "train: 6/8, 120 s left", "train: 8/8"]
