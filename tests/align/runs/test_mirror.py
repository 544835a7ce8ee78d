"""The mirror in wandb neither delays nor ends a stage, whatever becomes of wandb."""

import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from align.runs import mirror as mirrors
from align.runs.mirror import WandbMirror, logged_in
from align.runs.tracking import Tracker, read_metrics
from tests.align.runs import chain

ROOT = Path(__file__).parents[3]


class Stand:
    """A stand-in for the wandb module whose run fails at its n-th call."""

    class Settings:
        def __init__(self, **_):
            pass

    def __init__(self, fail_at=0, error=None):
        self.fail_at, self.calls, self.logged = fail_at, 0, []
        self.error = error or ConnectionResetError("service gone\nand more")

    def _step(self):
        self.calls += 1
        if self.calls == self.fail_at:
            raise self.error

    def init(self, **kwargs):
        self._step()
        self.kwargs = kwargs
        return self

    def log(self, metrics, step):
        self._step()
        self.logged.append((step, metrics))

    def finish(self):
        self._step()


def mirror(folder, mode="offline", **settings):
    return WandbMirror(
        folder, group="run", stage="sft", project="align", mode=mode, config={}, **settings
    )


def log(folder, mirror, *steps):
    """Log the steps as a stage does, and close the mirror as its runner does."""
    with Tracker(folder, "sft", mirror=mirror, terminal=io.StringIO()) as tracker:
        for step in steps:
            tracker.log(step, {"sft/train/loss": 1.0})
    mirror.close()


@pytest.mark.parametrize("fail_at", [1, 2, 4, 5])
def test_wandb_failing_at_any_call_warns_once_and_stops_nothing(
    tmp_path, monkeypatch, capsys, fail_at
):
    wandb = Stand(fail_at)  # calls: init, log, log, log, finish
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    log(tmp_path, mirror(tmp_path), 1, 2, 3)
    assert wandb.calls == fail_at
    assert capsys.readouterr().err == (
        "warning: wandb stopped (ConnectionResetError: service gone); metrics.jsonl goes on; "
        "tracking.wandb=off switches wandb off\n"
    )
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 3


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_what_would_end_the_process_ends_the_mirror_only(tmp_path, monkeypatch, capsys, error):
    monkeypatch.setitem(sys.modules, "wandb", Stand(1, error))
    log(tmp_path, mirror(tmp_path), 1, 2)
    assert capsys.readouterr().err.startswith(f"warning: wandb stopped ({type(error).__name__}: ")
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 2


def test_wandb_not_installed_is_one_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    log(tmp_path, mirror(tmp_path), 1)
    assert capsys.readouterr().err.startswith("warning: wandb stopped (ModuleNotFoundError")


def test_a_log_that_hangs_is_not_waited_for_and_the_queue_is_bounded(tmp_path, monkeypatch, capsys):
    wandb, goes_on = Stand(), threading.Event()
    wandb.log = lambda *_, **__: goes_on.wait()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(mirrors, "ROWS", 10)
    log(tmp_path, mirror(tmp_path), *range(1, 20))  # would never come back
    goes_on.set()
    assert capsys.readouterr().err == (
        "warning: wandb stopped (does not keep up); metrics.jsonl goes on; tracking.wandb=off "
        "switches wandb off\n"
    )
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 19


def test_what_is_still_to_be_sent_is_waited_for_up_to_a_bound(tmp_path, monkeypatch, capsys):
    wandb, at_the_second, goes_on = Stand(), threading.Event(), threading.Event()

    def send(metrics, step):
        if step == 2:
            at_the_second.set()
            goes_on.wait()

    wandb.log = send
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(mirrors, "CLOSE_SECONDS", 0.2)
    found = mirror(tmp_path)
    for step in (1, 2, 3):
        found.log(step, {"sft/train/loss": 1.0})
    assert at_the_second.wait(60)
    found.close()
    goes_on.set()
    assert "(1 of 3 rows sent, no answer within 0.2 s)" in capsys.readouterr().err


def test_a_stage_waits_at_most_five_seconds_for_its_mirror():
    assert mirrors.CLOSE_SECONDS + 2 * mirrors.KILL_SECONDS <= 5


def test_the_artifact_is_published_before_the_mirror_is_closed(run, monkeypatch):
    wandb, published = Stand(), []
    wandb.finish = lambda: published.append(Path("runs/r/sft/manifest.json").is_file())
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    assert run(chain.SFT, "tracking.wandb=offline")[0] == 0
    assert published == [True]


def test_wandb_starts_with_the_first_metrics_in_the_group_of_the_run(tmp_path, monkeypatch):
    wandb = Stand()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("WANDB_MODE", "offline")
    log(tmp_path, mirror(tmp_path, "auto"))
    assert wandb.calls == 0
    log(tmp_path, mirror(tmp_path, "auto"), 7)
    assert (wandb.kwargs["group"], wandb.kwargs["mode"]) == ("run", "offline")
    assert wandb.logged == [(7, {"sft/train/loss": 1.0})]


@pytest.mark.parametrize(("mode", "resume"), [("online", "allow"), ("offline", None)])
def test_a_named_run_of_wandb_goes_on_where_it_is_there_already(
    tmp_path, monkeypatch, mode, resume
):
    wandb = Stand()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("WANDB_MODE", mode)
    log(tmp_path, mirror(tmp_path, "auto", run_id="abc"), 3)
    assert (wandb.kwargs["id"], wandb.kwargs["resume"]) == ("abc", resume)


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


# ----------------------------------------------------------------------- the real wandb, in trouble

STAGE = """
import os, sys
from align.runs import mirror
from align.runs.runner import main
from tests.align.runs import chain
mirror.CLOSE_SECONDS = float(os.environ.get("CLOSE_SECONDS", mirror.CLOSE_SECONDS))
raise SystemExit(main(chain.SFT, argv=["r.yaml", *sys.argv[1:]]))
"""
STARTED = """
import psutil, sys, time
while not (core := [c for c in psutil.Process().children() if c.name() == "wandb-core"]):
    time.sleep(0.01)
while sys.modules["wandb"].run is None:
    time.sleep(0.01)
"""
MORE = """
for step in range(2, 40):
    context.tracker.log(step, {"sft/train/loss": 1.0}, total=40)
"""
SLOW = """
import time, wandb
wandb.Run.log = lambda *_, **__: time.sleep(2)
"""
LATE = r"\d+ of 39 rows sent, no answer within 4 s"
TROUBLE = {
    "frozen": (STARTED + "core[0].suspend()" + MORE, LATE),
    "killed": (STARTED + "core[0].kill()" + MORE, rf"\w+: .*|{LATE}"),
    "slow": (SLOW + MORE, LATE),
    "unreachable": (MORE, LATE),
}


def stage(folder, fault="", *items, **environment):
    """Run the stage of the chain as a process of its own; a hanging one fails the test."""
    chain.lay_out(folder)
    known = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    settings = {"PYTHONPATH": str(ROOT), "CHAIN_FAULT": fault, "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", STAGE, *items],
        cwd=folder,
        env=known | settings | environment,
        capture_output=True,
        text=True,
        timeout=80,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("trouble", TROUBLE)
def test_a_stage_ends_with_the_same_weights_and_one_line_whatever_wandb_does(tmp_path, trouble):
    fault, reason = TROUBLE[trouble]
    (tmp_path / "plain").mkdir()
    (tmp_path / "mirrored").mkdir()
    assert stage(tmp_path / "plain", MORE) == ""
    if trouble == "unreachable":
        with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes a connection, never answers
            address = f"http://127.0.0.1:{deaf.getsockname()[1]}"
            settings = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": address}
            told = stage(tmp_path / "mirrored", fault, "tracking.wandb=auto", **settings)
    else:
        told = stage(tmp_path / "mirrored", fault, "tracking.wandb=offline")
    line = rf"warning: wandb stopped \((?:{reason})\); metrics.jsonl goes on; [^\n]*\n"
    assert re.fullmatch(line, told), told
    plain, mirrored = (
        json.loads((tmp_path / name / "runs/r/sft/manifest.json").read_text())["files"]
        for name in ("plain", "mirrored")
    )
    assert plain["model/weights"] == mirrored["model/weights"]
    curve = read_metrics(tmp_path / "mirrored/runs/r/sft/metrics.jsonl")
    assert [row["step"] for row in curve] == list(range(1, 40))
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and b"a" * 40 in p.read_bytes()]


def test_the_real_wandb_mirrors_offline_without_an_account(tmp_path):
    assert stage(tmp_path, "", "tracking.wandb=offline", CLOSE_SECONDS="60") == ""
    assert len(list(tmp_path.glob("runs/r/wandb/offline-run-*/run-*.wandb"))) == 1
