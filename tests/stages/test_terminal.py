"""What a stage shows on a terminal of any width, in a pipe, and at Ctrl-C: seen from outside."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import traceback
import uuid

import pytest

from align.messages import steps, window
from align.messages.columns import width
from align.runs.runner import main
from tests.align.runs import chain
from tests.stages.world import World

WIDTHS = [40, 60, 80, 200]
HIDDEN_CURSOR = "\x1b[?25l"


def child(action):
    """Run `action` in a fork with plain streams on its file descriptors; never come back."""
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    code = 1
    try:
        code = action()
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def on_terminal(action, columns, *, keys=(), wait_for=""):
    """Run `action` on a terminal; press `keys` once `wait_for` is seen. Return (code, bytes)."""
    pid, link = pty.fork()
    if pid == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.environ.update(TERM="xterm-256color")
        os.environ.pop("NO_COLOR", None)
        child(action)
    shown, waiting = b"", list(keys)
    while True:
        try:
            read = os.read(link, 1 << 16)
        except OSError:  # how Linux tells that the other side is closed
            break
        if not read:
            break
        shown += read
        if waiting and wait_for in plain(shown.decode(errors="replace")):
            os.write(link, waiting.pop(0))
    os.close(link)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), shown


def in_pipe(action):
    """The same with one pipe for both streams."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        child(action)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        shown = pipe.read()
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), shown


def plain(text):
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def lines(shown):
    """Every line that stood on the terminal, rewritten ones too, without colours."""
    text = plain(shown.decode()).replace("\r\n", "\n")
    return [line for line in re.split(r"\r\x1b\[2K|\n", text) if line]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("터미널"))
    world.recipe["evaluate"] = {"policies": ["sft", "ppo"], "bootstrap": 20, "max_new_tokens": 6}
    world.recipe["data"]["evaluation"] = world.recipe["data"]["prompts"]
    world.recipe["sft"]["trainer"] |= {"logging_steps": 1, "max_steps": 3}
    return world


def sft(world, name):
    """The stage with a window that looks often, for a stage that takes a second."""
    os.chdir(world.folder)
    window.LIVE_SECONDS = window.PLAIN_TICK = 0.02
    return world.run("sft", f"run={name}", "force=true", "runs_dir=runs")


@pytest.mark.parametrize("columns", WIDTHS)
def test_no_line_of_a_stage_is_wider_than_its_terminal(world, columns, tmp_path):
    code, shown = on_terminal(lambda: sft(world, f"w{columns}"), columns)
    assert code == 0, shown.decode()
    told = lines(shown)
    assert max(map(width, told)) <= columns
    text = plain(shown.decode())
    assert any(re.fullmatch(r"sft      done in \d:\d\d → runs/w\d+/sft", one) for one in told)
    assert any(line.startswith("sft      3/3 100%") for line in told)
    assert HIDDEN_CURSOR not in shown.decode()
    assert text.endswith(("\n", "\r\x1b[2K"))
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed: the bytes were looked at, no screen")
    seen, joined = screen(shown, columns, tmp_path)
    assert seen == joined  # no line goes on in the next one
    assert seen[0] == "sft      runs: first run"
    assert sum(line.startswith("sft      3/3 100%") for line in seen) == 1
    assert not any(line.startswith(("sft      1/3", "sft      2/3")) for line in seen)


def screen(shown, columns, folder):
    """What tmux shows of these bytes, and the same with wrapped lines joined."""
    (folder / "shown").write_bytes(shown)
    tmux = ["tmux", "-L", uuid.uuid4().hex, "-f", "/dev/null"]
    command = f"cat '{folder}/shown'; tmux wait-for -S shown; sleep 60"
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
    environment.pop("TMUX", None)

    def run(*arguments):
        done = subprocess.run(
            [*tmux, *arguments], env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return [line.rstrip() for line in done.stdout.splitlines() if line.strip()]

    run("new-session", "-d", "-x", str(columns), "-y", "50", command)
    try:
        run("wait-for", "shown")
        return run("capture-pane", "-p"), run("capture-pane", "-p", "-J")
    finally:
        run("kill-server")


def test_a_pipe_gets_whole_lines_without_control_characters(world):
    code, shown = in_pipe(lambda: sft(world, "piped"))
    assert code == 0
    text = shown.decode()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    assert "sft      runs: first run\n" in text and text.endswith("\n")
    counts = re.findall(r"^sft      (\d)/3", text, re.M)
    assert counts[0] in "01" and counts[-1] == "3"
    assert all(line.startswith(("sft ", "warning: ", "  ")) for line in text.splitlines()), text


@pytest.mark.parametrize("name", ["sft", "reward", "ppo", "evaluate"])
def test_each_long_step_is_counted_to_its_end(world, name, monkeypatch, capsys):
    seen = []

    class Recorder(list):
        def append(self, one):
            seen.append(one)
            super().append(one)

    recorder = Recorder()
    monkeypatch.setattr(steps, "OPEN", recorder)
    monkeypatch.setattr(window, "OPEN", recorder)
    assert world.run(name) == 0, capsys.readouterr().err
    told = {one.what.split(" /")[0] for one in seen}
    common = {"comparing with what is published", "loading libraries", "loading a model"}
    training = {"encoding", "saving the model", "publishing"}
    expected = {
        "sft": {*training, "reading", "checking the model", "preparing the training"},
        "reward": {*training, "reading", "preparing the training", "scoring"},
        "ppo": {*training, "sampling", "scoring", "measuring", "updating", "saving a checkpoint"},
        "evaluate": {"sampling", "measuring the KL", "scoring", "summarising", "publishing"},
    }
    assert told >= common | expected[name]
    assert {one.what for one in seen if one.total not in (None, one.done)} <= {""}
    assert not recorder


# ------------------------------------------------------------------------------------------ Ctrl-C

GOES_ON = """
import itertools, time
from align.runs.signals import STOP
for step in itertools.count(2):
    context.tracker.log(step, {"sft/train/loss": 0.5}, total=10**9)
    time.sleep(0.001)
"""
TO_THE_END_OF_A_STEP = """
import time
from align.runs.signals import STOP
with STOP.deferred():
    while not STOP.asked:
        context.tracker.log(2, {"sft/train/loss": 0.5}, total=10**9)
        time.sleep(0.001)
"""
STOPPED = "stopped by SIGINT; nothing half-done was published, the same command goes on"


@pytest.mark.parametrize("columns", [40, 200])
@pytest.mark.parametrize("work", [GOES_ON, TO_THE_END_OF_A_STEP])
def test_ctrl_c_leaves_a_clean_terminal(tmp_path, work, columns):
    chain.lay_out(tmp_path)

    def action():
        os.chdir(tmp_path)
        os.environ["CHAIN_FAULT"] = work
        return main(chain.SFT, argv=["r.yaml"])

    code, shown = on_terminal(action, columns, keys=[b"\x03"], wait_for="sft      2/1000000000")
    assert code == 130, shown.decode()
    text = plain(shown.decode()).replace("\r\n", "\n")
    left = [re.split(r"\r\x1b\[2K", line)[-1] for line in text.split("\n")]  # as a screen shows it
    assert left[-1] == "" and HIDDEN_CURSOR not in text
    told = " ".join(" ".join(left).split())
    assert told.count(STOPPED) == 1 and told.endswith(STOPPED)
    assert "^C" not in told
    saves = "SIGINT: saves after this step; again: stops at once"
    assert told.count(saves) == (work is TO_THE_END_OF_A_STEP)
    assert max(map(width, left)) <= columns
