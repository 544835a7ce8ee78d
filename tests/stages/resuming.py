"""A stage that is stopped and run again: the stopping, and what two runs of it differ in."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.stages.world import World, weights

TIMED = ("time", "step_time")


@contextmanager
def stopped_in(
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    function: str,
    call: int | None,
    number: signal.Signals = signal.SIGTERM,
) -> Iterator[list[int]]:
    """A signal comes as a function is called for the n-th time; the calls are counted."""
    plain, calls = getattr(owner, function), []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), number)
        return plain(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(owner, function, counted)
        yield calls


def curve(world: World, stage: str, run: str) -> list[dict[str, Any]]:
    """The rows of a run's metrics without what tells of time."""
    return [
        {key: value for key, value in row.items() if not key.endswith(TIMED)}
        for row in world.curve(stage, run)
    ]


def differences(world: World, stage: str, run: str, other: str) -> list[str]:
    """Weights that differ by a bit, and rows of the curve that differ, between two runs."""
    got, expected = (weights(world.out(stage, name) / "model") for name in (run, other))
    differing = [
        name
        for name in sorted(got.keys() | expected.keys())
        if name not in got or name not in expected or not got[name].equal(expected[name])
    ]
    if curve(world, stage, run) != curve(world, stage, other):
        differing.append("the curve")
    return differing
