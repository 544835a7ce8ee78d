import io
import json
import os
import subprocess
import sys

import pytest

from align.runs import tracking
from align.runs.tracking import Tracker, WandbMirror, clock, logged_in, read_metrics


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Broken:
    """A stand-in for the wandb module whose run fails at its n-th call."""

    class Settings:
        def __init__(self, **_):
            pass

    def __init__(self, fail_at):
        self.fail_at, self.calls, self.logged = fail_at, 0, []

    def _step(self):
        self.calls += 1
        if self.calls == self.fail_at:
            raise ConnectionResetError("service gone\nand more")

    def init(self, **kwargs):
        self._step()
        self.kwargs = kwargs
        return self

    def log(self, metrics, step):
        self._step()
        self.logged.append((step, metrics))

    def finish(self):
        self._step()


def mirror(tmp_path, mode="offline"):
    return WandbMirror(tmp_path, group="run", stage="sft", project="align", mode=mode, config={})


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


@pytest.mark.parametrize("fail_at", [1, 2, 4, 5])
def test_wandb_failing_at_any_call_warns_once_and_stops_nothing(
    tmp_path, monkeypatch, capsys, fail_at
):
    broken = Broken(fail_at)  # calls: init, log, log, log, finish
    monkeypatch.setitem(sys.modules, "wandb", broken)
    tracker = Tracker(tmp_path, "sft", mirror=mirror(tmp_path), terminal=io.StringIO())
    for step in (1, 2, 3):
        tracker.log(step, {"sft/train/loss": 1.0})
    tracker.close()
    assert broken.calls == fail_at
    assert capsys.readouterr().err == (
        "warning: wandb stopped (ConnectionResetError: service gone); metrics.jsonl goes on; "
        "tracking.wandb=off switches wandb off\n"
    )
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 3


def test_wandb_not_installed_is_one_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with Tracker(tmp_path, "sft", mirror=mirror(tmp_path), terminal=io.StringIO()) as tracker:
        tracker.log(1, {"sft/train/loss": 1.0})
    assert capsys.readouterr().err.startswith("warning: wandb stopped (ModuleNotFoundError")


def test_wandb_starts_with_the_first_metrics_in_the_group_of_the_run(tmp_path, monkeypatch):
    wandb = Broken(fail_at=0)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("WANDB_MODE", "offline")
    with Tracker(tmp_path, "sft", mirror=mirror(tmp_path, "auto"), terminal=io.StringIO()) as t:
        assert wandb.calls == 0
        t.log(7, {"sft/train/loss": 1.0})
    assert (wandb.kwargs["group"], wandb.kwargs["mode"]) == ("run", "offline")
    assert wandb.logged == [(7, {"sft/train/loss": 1.0})]


@pytest.mark.parametrize(("mode", "resume"), [("online", "allow"), ("offline", None)])
def test_a_named_run_of_wandb_goes_on_where_it_is_there_already(
    tmp_path, monkeypatch, mode, resume
):
    wandb = Broken(fail_at=0)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("WANDB_MODE", mode)
    settings = {"group": "r", "stage": "ppo", "project": "p", "mode": "auto", "config": {}}
    mirror = WandbMirror(tmp_path, **settings, run_id="abc")
    with Tracker(tmp_path, "ppo", mirror=mirror, terminal=io.StringIO()) as tracker:
        tracker.log(3, {"ppo/reward/score": 1.0})
    assert (wandb.kwargs["id"], wandb.kwargs["resume"]) == ("abc", resume)


def test_the_real_wandb_mirrors_offline_without_an_account(tmp_path):
    code = (
        "import pathlib, sys; from align.runs.tracking import *\n"
        "silence_telemetry(); folder = pathlib.Path(sys.argv[1])\n"
        "mirror = WandbMirror(folder, group='g', stage='sft', project='p', mode='offline',"
        " config={'a': 1}, run_id='abc')\n"
        "with Tracker(folder, 'sft', mirror=mirror) as t: t.log(1, {'sft/train/loss': 1.0})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert len(list(tmp_path.glob("wandb/offline-run-*/run-abc.wandb"))) == 1


@pytest.mark.parametrize(
    ("environment", "netrc", "expected"),
    [
        ({}, None, False),
        ({"WANDB_API_KEY": "k"}, None, True),
        ({"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, None, False),
        ({"WANDB_MODE": "online"}, None, True),
        ({}, "machine api.wandb.ai login user password k", True),
        ({}, "machine example.com login user password k", False),
        ({}, "machine", False),
    ],
)
def test_wandb_is_online_only_when_logged_in(tmp_path, monkeypatch, environment, netrc, expected):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    if netrc is not None:
        (tmp_path / ".netrc").write_text(netrc)
        (tmp_path / ".netrc").chmod(0o600)
    assert logged_in() is expected


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
