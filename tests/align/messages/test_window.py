"""The live line of a terminal, and the plain lines of a log."""

import io
import os
import re
import sys

import pytest

from align.messages import Window, clock, counted, doing, tell, window
from align.messages.columns import width
from align.messages.steps import OPEN


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of 60 columns without colours."""
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    return Terminal()


@pytest.fixture
def seconds(monkeypatch):
    """A clock that is turned by hand."""
    now = [0.0]
    monkeypatch.setattr(window.time, "monotonic", lambda: now[0])
    return now


def drawn(terminal):
    """The lines that were drawn, without their styles."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue())
    return [line for line in re.split(r"\r\x1b\[2K|\n", plain) if line]


def run(shown, seconds, steps, each, total):
    for number in range(1, steps + 1):
        shown.reached(number, total, {"ppo/kl/sequence": 0.5 * number, "other": 1.0})
        seconds[0] += each
    shown.close()


def ppo(stream):
    return Window("ppo", ("ppo/kl/sequence", "ppo/train/loss"), stream)


def test_a_terminal_shows_one_line_rewritten_in_place(terminal, seconds):
    run(ppo(terminal), seconds, 3, 2, 3)
    assert drawn(terminal) == [
        "ppo      1/3  33%  kl/sequence 0.5",
        "ppo      2/3  66%  2.0 s/step  ETA 0:02  kl/sequence 1",
        "ppo      3/3 100%  2.0 s/step  kl/sequence 1.5",
    ]
    assert terminal.getvalue().count("\n") == 1 and terminal.getvalue().endswith("\n")


@pytest.mark.parametrize("columns", [10, 20, 40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(terminal, seconds, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = ppo(terminal)
    with doing("답을 뽑는 중입니다", 64) as sampling:
        for number in range(1, 4):
            shown.reached(number, 1000, {"ppo/kl/sequence": 0.5, "ppo/train/loss": 123.4})
            sampling.advance(16)
            seconds[0] += 3
            shown.refresh()
    shown.close()
    lines = drawn(terminal)
    assert max(map(width, lines)) < columns
    assert lines[-1].startswith("ppo      3"[: columns - 2])
    whole = "ppo      3/1000   0%  답을 뽑는 중입니다 48/64  0:03  3.0 s/step  ETA 49:48"
    assert (f"{whole}  kl/sequence 0.5  loss 123" in lines) is (columns == 200)


def test_parts_that_do_not_fit_are_left_out_whole(terminal, seconds):
    run(ppo(terminal), seconds, 2, 70, 1000)
    assert drawn(terminal)[1] == "ppo      2/1000   0%  70.0 s/step  ETA 19:24:20"


def test_without_colours_only_weight_is_used_and_with_them_the_inner_step_is_cyan(
    terminal, seconds, monkeypatch
):
    with doing("sampling", 4):
        ppo(terminal).reached(1, 9, {})
        assert "\x1b[36m" not in terminal.getvalue()
        monkeypatch.delenv("NO_COLOR")
        ppo(terminal).reached(1, 9, {})
    assert "\x1b[36msampling 0/4\x1b[0m" in terminal.getvalue()
    OPEN.clear()


@pytest.mark.parametrize("kind", ["dumb", "unknown", ""])
def test_a_dumb_terminal_gets_plain_lines(terminal, seconds, monkeypatch, kind):
    monkeypatch.setenv("TERM", kind)
    run(ppo(terminal), seconds, 3, 6, 3)
    assert terminal.getvalue() == (
        "ppo      1/3  33%  kl/sequence 0.5\n"
        "ppo      2/3  66%  6.0 s/step  ETA 0:06  kl/sequence 1\n"
        "ppo      3/3 100%  6.0 s/step  kl/sequence 1.5\n"
    )


@pytest.mark.parametrize(
    ("steps", "each", "total", "shown"),
    [
        (100, 1, 100, [1, *range(11, 100, 10), 100]),  # every tenth
        (50, 1, 10**6, [1]),  # less than a minute
        (20, 20, 10**6, [1, 4, 7, 10, 13, 16, 19]),  # every minute
        (12, 1, None, [1, 6, 11]),  # unknown length: every five seconds
    ],
)
def test_elsewhere_a_plain_line_comes_every_tenth_or_minute_and_at_the_end(
    seconds, steps, each, total, shown
):
    log = io.StringIO()
    run(ppo(log), seconds, steps, each, total)
    lines = log.getvalue().splitlines()
    assert [int(line.split()[1].split("/")[0]) for line in lines] == shown


def test_a_line_tells_the_rate_the_time_left_and_the_headline(seconds):
    log = io.StringIO()
    run(ppo(log), seconds, 100, 1, 100)
    line = log.getvalue().splitlines()[5]
    assert line == "ppo      51/100  51%  1.0 step/s  ETA 0:49  kl/sequence 25.5"


def test_a_log_tells_of_a_step_that_takes_two_seconds_and_of_none_that_does_not(seconds):
    log = io.StringIO()
    shown = ppo(log)

    def passes(time):
        for _ in range(int(2 * time)):
            seconds[0] += 0.5
            shown.refresh()

    with doing("verifying"):
        passes(1.5)
    with doing("loading the model"):
        passes(30)
    for _ in counted(range(8), "encoding"):
        passes(2)
    assert log.getvalue() == (
        "ppo      loading the model 0:02\n"
        "ppo      encoding 0/8   0%\n"
        "ppo      encoding 3/8  37%  ETA 0:09\n"
        "ppo      encoding 5/8  62%  ETA 0:04\n"
    )


def test_what_is_done_inside_is_shown_on_a_terminal_and_not_in_a_log(terminal, seconds):
    log = io.StringIO()
    for stream in (terminal, log):
        shown = ppo(stream)
        shown.reached(1, 9, {})
        with doing("sampling", 4):
            shown.refresh()
        shown.close()
    assert drawn(terminal)[1] == "ppo      1/9  11%  sampling 0/4"
    assert log.getvalue() == "ppo      1/9  11%\n"


def test_other_lines_come_above_the_live_line(terminal, seconds, monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal)
    with ppo(terminal) as shown:
        shown.reached(1, 9, {})
        tell("a note")
        print("of a library", file=sys.stdout)
        shown.reached(2, 9, {})
    text = terminal.getvalue()
    assert "ppo      \x1b[0m1/9  11%\r\x1b[2Ka note\nof a library\n\r\x1b[2K" in text
    assert text.endswith("\n")
    assert sys.stdout is terminal


def test_a_step_that_ends_leaves_nothing_behind(terminal, seconds):
    shown = ppo(terminal)
    with doing("encoding", 4):
        shown.refresh()
    shown.close()
    assert terminal.getvalue().endswith("\r\x1b[2K")
    assert not OPEN


def test_a_step_that_fails_is_closed(seconds):
    with pytest.raises(ValueError, match="bad row"):
        for _ in counted([1, 2], "encoding"):
            raise ValueError("bad row")
    assert not OPEN


def test_a_line_from_a_signal_handler_takes_the_place_of_the_live_line(monkeypatch, capfd):
    window.tell_amidst("SIGINT: saves")
    assert capfd.readouterr().err == "SIGINT: saves\n"
    written = []
    monkeypatch.setattr(os, "isatty", lambda number: number == 2)
    monkeypatch.setattr(os, "write", lambda number, line: written.append(line))
    with ppo(Terminal()) as shown:
        shown.reached(1, 9, {})
        window.tell_amidst("SIGINT: saves")
    assert written == [b"\r\x1b[2KSIGINT: saves\n"]


def test_durations_read_as_clocks():
    assert [clock(s) for s in (0, 9.6, 75, 3700)] == ["0:00", "0:10", "1:15", "1:01:40"]
