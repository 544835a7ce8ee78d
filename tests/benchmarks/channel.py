"""Parent and child over pipes: one trainer in each child, one iteration at a time.

The parent writes a line to the child's stdin and reads a line of JSON from its stdout. A trainer
runs its own loop; where an iteration begins it calls `Gate.wait`, which reports the one that has
ended and blocks until the parent says `go`. A child that waits uses no processor.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.clock import Clock, Memory

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "bench-ppo"

Report = dict[str, Any]


class ChildStopped(SystemExit):
    """A trainer ended by itself; not caught, it ends the parent with the end of its log."""

    def __init__(self, name: str, log: Path) -> None:
        lines = log.read_text(encoding="utf-8").splitlines()
        self.last = lines[-1] if lines else "no output"
        super().__init__("\n".join([f"error: {name} stopped; the end of {log}:", *lines[-15:]]))


class Child:
    """A trainer in a process of its own, as its parent sees it."""

    def __init__(self, name: str, module: str, job: Report, *, path: Path | None = None) -> None:
        """`path` comes before the installed packages; what the child prints goes to a log."""
        self.name = name
        self.log = BUILD / f"{name}.log"
        threads = str(job["threads"])
        env = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        env |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        env |= {"PYTHONPATH": os.pathsep.join(map(str, filter(None, (path, ROOT))))}
        BUILD.mkdir(parents=True, exist_ok=True)
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env=env,
            )
        self.ask(json.dumps(job))

    def ask(self, command: str) -> Report:
        """Send a command and wait for the answer; the answer to the job is that it is set up."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise ChildStopped(self.name, self.log)
        return json.loads(answer)

    def iterate(self) -> Report:
        return self.ask("go")

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)


class Gate:
    """The child's side of the pipe."""

    def __init__(self) -> None:
        """Take stdout for the answers; whatever a library prints goes to the log."""
        self._answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self.job: Report = json.loads(sys.stdin.readline())
        self.device = torch.device(self.job["device"])
        self.clock = Clock(self.device)
        self.memory: Memory | None = None
        self.metrics: dict[str, float] = {}
        self.lengths: list[tuple[int, int]] = []
        self.probe: Callable[[], Report] | None = None
        self._started = False

    def count_memory(self) -> None:
        """Called once everything is imported: what comes now is the trainer's."""
        torch.set_num_threads(self.job["threads"])
        self.memory = Memory(self.device)

    def wait(self) -> None:
        """Report the iteration that ends here; come back when the next may begin."""
        if self.memory is None:
            raise RuntimeError("memory counts from the end of the imports")
        report: Report = {"peak": self.memory.peak(), "lengths": self.lengths}
        report["metrics"] = self.metrics
        self._answer(report | (self.clock.reading() if self._started else {}))
        while command := sys.stdin.readline().strip():
            if command == "go":
                self.lengths, self._started = [], True
                self.clock.reset()
                return
            assert command == "probe" and self.probe is not None, command
            self._answer(self.probe())
        raise SystemExit(0)

    def _answer(self, report: Report) -> None:
        self._answers.write(json.dumps(report) + "\n")
        self._answers.flush()
