"""Seconds by phase and the memory of this process; the same instrument in both children."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class Clock:
    """CPU and wall seconds of named phases since the last reset. Phases do not nest."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.reset()

    def reset(self) -> None:
        self.cpu: defaultdict[str, float] = defaultdict(float)
        self.wall: defaultdict[str, float] = defaultdict(float)
        self._origin = self._now()
        self._begun: tuple[str, float, float] | None = None

    def _now(self) -> tuple[float, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.process_time(), time.perf_counter()

    def begin(self, phase: str) -> None:
        """Start `phase`; within an open phase this changes nothing."""
        if self._begun is None:
            self._begun = (phase, *self._now())

    def end(self, phase: str) -> None:
        if self._begun is not None and self._begun[0] == phase:
            _, cpu, wall = self._begun
            now_cpu, now_wall = self._now()
            self.cpu[phase] += now_cpu - cpu
            self.wall[phase] += now_wall - wall
            self._begun = None

    def timed(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, whose time counts as `phase`."""

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            self.begin(phase)
            try:
                return function(*args, **kwargs)
            finally:
                self.end(phase)

        return wrapper

    def reading(self) -> dict[str, dict[str, float]]:
        """Seconds by phase; `whole` is everything since the reset, `rest` what no phase claims."""
        now = self._now()
        named = {"cpu": self.cpu, "wall": self.wall}
        return {
            kind: {**seconds, "whole": end - start, "rest": end - start - sum(seconds.values())}
            for (kind, seconds), start, end in zip(named.items(), self._origin, now, strict=True)
        }


class Memory:
    """Peak memory over what was held when this was made, in bytes.

    On the CPU resident memory of the process; on CUDA what torch has handed out of the card.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.on_cuda = torch.device(device).type == "cuda"
        if self.on_cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # the peak so far was of the imports
        self.start = torch.cuda.memory_allocated() if self.on_cuda else self._status("VmRSS")

    def peak(self) -> int:
        now = torch.cuda.max_memory_allocated() if self.on_cuda else self._status("VmHWM")
        return now - self.start

    @staticmethod
    def _status(key: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        line = next(line for line in lines if line.startswith(key))
        return int(line.split()[1]) * 1024
