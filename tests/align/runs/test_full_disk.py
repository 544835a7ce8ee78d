"""A disk that is full, and signals, at every call that writes: nothing but the interval is lost."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path

import pytest
import torch

from align.messages.errors import RetryableError
from align.runs import hashing, signals
from align.runs.artifacts import read_artifact
from align.runs.checkpoints import Checkpoints, Saved
from align.runs.run_dir import lock
from align.runs.signals import Stop, Stopped
from tests.align.runs import chain
from tests.align.runs.faulty_writes import FaultyWrites

INPUTS = {"seed": 0}


def state(step):
    return Saved({"weights": torch.full((1000,), float(step))}, {"step": step})


def made(folder, stop=None):
    folder.mkdir(exist_ok=True)
    curve = folder / "metrics.jsonl"
    curve.write_text("1\n")
    return Checkpoints(folder, "ppo", INPUTS, curve=curve, stop=stop)


def calls_of_a_save(folder):
    checkpoints = made(folder)
    checkpoints.save(5, state(5))
    with FaultyWrites(folder).injected() as all_of_them:
        checkpoints.save(10, state(10))
    assert len(all_of_them.calls) > 12
    return all_of_them.calls


def check_left(folder):
    """The newest checkpoint is whole, and it is one of the two; nothing lies about."""
    checkpoints = made(folder)
    saved = checkpoints.latest(28)
    step = saved.values["step"]
    assert torch.equal(saved.tensors["weights"], state(step).tensors["weights"])
    assert not list(folder.rglob(".tmp-*")) and not (folder / "quarantine").exists()
    checkpoints.save(11, state(11))
    assert made(folder).latest(28).values["step"] == 11
    return step


def test_a_full_disk_at_any_call_of_a_save_costs_no_more_than_that_save(tmp_path):
    steps = []
    for number in range(1, len(calls_of_a_save(tmp_path / "whole")) + 1):
        folder = tmp_path / str(number)
        checkpoints = made(folder)
        checkpoints.save(5, state(5))
        with FaultyWrites(folder, number).injected() as faults:
            with pytest.raises(RetryableError) as caught:
                checkpoints.save(10, state(10))
            assert "No space left" in str(caught.value) and "\n" not in str(caught.value)
        assert len(faults.calls) >= number
        steps.append(check_left(folder))
    assert steps[0] == 5 and steps == sorted(steps)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_any_call_of_a_save_lets_it_be_finished(tmp_path, number):
    for at in range(1, len(calls_of_a_save(tmp_path / "whole")) + 1):
        folder, stop = tmp_path / str(at), Stop()
        checkpoints = made(folder, stop)
        checkpoints.save(5, state(5))
        told = FaultyWrites(folder, at, lambda: os.kill(os.getpid(), number))
        with pytest.raises(Stopped) as stopped, stop.handled(), stop.deferred(), told.injected():
            checkpoints.reached(10, 28, lambda: state(10))
        assert stopped.value.exit_code == 128 + number
        assert check_left(folder) == 10


def test_a_second_signal_at_any_call_of_a_save_ends_it_and_the_one_before_serves(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(signals, "SAME_REQUEST_SECONDS", 0.0)
    steps = []
    for at in range(1, len(calls_of_a_save(tmp_path / "whole")) + 1):
        folder, stop = tmp_path / str(at), Stop()
        checkpoints = made(folder, stop)
        checkpoints.save(5, state(5))
        again = FaultyWrites(folder, at, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Stopped), stop.handled(), stop.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            with again.injected():
                checkpoints.reached(10, 28, lambda: state(10))
        steps.append(check_left(folder))
    assert steps[0] == 5 and steps[-1] == 10 and steps == sorted(steps)


def test_a_full_disk_at_any_call_of_a_stage_is_one_line_and_loses_nothing_published(
    run, monkeypatch
):
    monkeypatch.setattr(hashing, "SETTLED_SECONDS", -1.0)
    run(chain.SFT)
    codes = []
    for number in itertools.count(1):
        before = read_artifact(Path("runs/r/sft")).manifest.seed
        seed = 3 - before if before in (1, 2) else 1
        with FaultyWrites(Path("runs"), number).injected() as faults:
            code, _, err = run(chain.SFT, f"seed={seed}")
        if len(faults.calls) < number:
            break
        call = faults.calls[number - 1]
        codes.append(code)
        assert err.count("\n") == (code != 0) and ("No space left" in err) == (code == 75), call
        with lock(Path("runs/r")):
            pass  # taking the lock recovers
        after = read_artifact(Path("runs/r/sft"))
        assert after.manifest.seed in (before, seed) if code else after.manifest.seed == seed, call
        assert (after.model / "weights").read_text() == f"sft{after.manifest.seed}", call
        assert run(chain.SFT, f"seed={seed}")[0] == 0
        assert read_artifact(Path("runs/r/sft")).manifest.seed == seed
        assert not list(Path("runs/r").glob(".tmp-*"))
    assert len(codes) >= 15
    assert set(codes) == {0, 75} and codes.count(0) < 6  # what is only remembered, or is there
