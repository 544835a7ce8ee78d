import io
import json
import os

import pytest

from align.runs import tracking
from align.runs.tracking import Tracker, clock, read_metrics


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_metrics_are_one_json_line_each_and_a_torn_last_line_is_left_out(tmp_path):
    with Tracker(tmp_path, "sft", terminal=io.StringIO()) as tracker:
        tracker.log(1, {"sft/train/loss": 2})
        tracker.log(2, {"sft/train/loss": float("nan")})
        tracker.log(3, {"sft/train/loss": float("-inf")})
    path = tmp_path / "metrics.jsonl"
    rows = read_metrics(path)
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert [row["sft/train/loss"] for row in rows] == [2.0, "nan", "-inf"]
    path.write_bytes(path.read_bytes()[:-4])
    assert [row["step"] for row in read_metrics(path)] == [1, 2]


def test_each_row_is_on_disk_as_soon_as_it_is_logged(tmp_path):
    tracker = Tracker(tmp_path, "sft", terminal=io.StringIO())
    tracker.log(1, {"sft/train/loss": 2})
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 1
    tracker.close()


def run_progress(monkeypatch, terminal, steps, seconds, total):
    now = iter(range(0, 10**6, seconds))
    monkeypatch.setattr(tracking.time, "monotonic", lambda: float(next(now)))
    progress = tracking.Progress("ppo", ("ppo/kl/sequence", "ppo/train/loss"), terminal)
    for step in range(1, steps + 1):
        progress.show(step, {"ppo/kl/sequence": 0.5 * step, "other": 1.0}, total)
    progress.close()
    return terminal.getvalue()


def test_a_terminal_shows_one_line_rewritten_in_place(monkeypatch):
    text = run_progress(monkeypatch, Terminal(), 3, 2, 3)
    assert text == (
        "\rppo      1/3  33%  kl/sequence 0.5"
        "\rppo      2/3  66%  2.0 s/step  ETA 0:02  kl/sequence 1"
        "\rppo      3/3 100%  2.0 s/step  kl/sequence 1.5        \n"
    )


@pytest.mark.parametrize(
    ("steps", "seconds", "total", "shown"),
    [
        (100, 1, 100, [1, *range(11, 100, 10), 100]),  # every tenth
        (50, 1, 10**6, [1]),  # less than a minute
        (20, 20, 10**6, [1, 4, 7, 10, 13, 16, 19]),  # every minute
        (12, 1, None, [1, 6, 11]),  # unknown length: every five seconds
    ],
)
def test_elsewhere_a_plain_line_comes_every_tenth_or_minute_and_at_the_end(
    monkeypatch, steps, seconds, total, shown
):
    text = run_progress(monkeypatch, io.StringIO(), steps, seconds, total)
    assert [int(line.split()[1].split("/")[0]) for line in text.splitlines()] == shown


def test_a_line_holds_step_share_rate_time_left_and_headline(monkeypatch):
    text = run_progress(monkeypatch, io.StringIO(), 100, 1, 100)
    assert text.splitlines()[5] == "ppo      51/100  51%  1.0 step/s  ETA 0:49  kl/sequence 25.5"


def test_durations_read_as_clocks():
    assert [clock(s) for s in (0, 9.6, 75, 3700)] == ["0:00", "0:10", "1:15", "1:01:40"]


def test_usage_reports_of_the_libraries_are_switched_off(monkeypatch):
    environment: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", environment)
    tracking.silence_telemetry()
    assert environment["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert environment["DO_NOT_TRACK"] == "1"
    assert environment["WANDB_ERROR_REPORTING"] == "false"


def test_rows_carry_the_time_they_were_written(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking.time, "time", lambda: 12.3456)
    with Tracker(tmp_path, "sft", terminal=io.StringIO()) as tracker:
        tracker.log(1, {})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "time": 12.346}
