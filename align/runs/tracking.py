"""Metrics of a running stage: metrics.jsonl is the truth, wandb a mirror, the terminal a window.

Keys are `stage/group/name`; a step is an optimiser step (PPO: an iteration).
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from align.messages import json_text, one_line
from align.runs.mirror import WandbMirror

METRICS_FILE = "metrics.jsonl"
PLAIN_SECONDS, PLAIN_FRACTION, PLAIN_MINUTE = 5.0, 0.1, 60.0
"""Off a terminal, a progress line comes every tenth of the whole, at least once a minute, and never
twice within five seconds."""


def silence_telemetry() -> None:
    """Switch off usage reports of the hub, TRL and wandb, and libraries' bars; call it first."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # TRL asks this one too
    os.environ.setdefault("TQDM_DISABLE", "1")  # libraries' bars: a stage has a progress of its own
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    os.environ["WANDB_SILENT"] = "true"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class Tracker:
    """Write metrics of one stage.

    Args:
        folder: where metrics.jsonl is written.
        stage: name shown in the terminal.
        headline: metric keys shown live.
        mirror: gets what is logged; whoever made it closes it, once the artifact is published.
    """

    def __init__(
        self,
        folder: Path,
        stage: str,
        *,
        headline: Sequence[str] = (),
        mirror: WandbMirror | None = None,
        terminal: TextIO | None = None,
    ) -> None:
        # Unbuffered: one line is one write, so a killed run tears at most the last line.
        self._file = (folder / METRICS_FILE).open("ab", buffering=0)
        self._mirror = mirror
        self._progress = Progress(stage, headline, terminal or sys.stdout)

    def log(self, step: int, metrics: Mapping[str, float], *, total: int | None = None) -> None:
        """Record metrics of one step. Values that are not finite are written as strings."""
        plain = {key: float(value) for key, value in metrics.items()}
        row = {"step": step, "time": round(time.time(), 3)}
        row |= {k: v if math.isfinite(v) else str(v) for k, v in plain.items()}  # type: ignore[misc]
        self._file.write(json_text(row).encode("utf-8") + b"\n")
        if self._mirror is not None:
            self._mirror.log(step, plain)
        self._progress.show(step, plain, total)

    def note(self, line: str) -> None:
        """Show a line in the terminal, above the progress of the stage."""
        self._progress.note(line)

    def close(self) -> None:
        self._progress.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a metrics.jsonl, without a torn last line."""
    rows = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        rows.append(json.loads(line))
    return rows


class Progress:
    """One rewritten line on a terminal; elsewhere a plain line now and then."""

    def __init__(self, stage: str, headline: Sequence[str], terminal: TextIO) -> None:
        self._stage, self._headline, self._terminal = stage, headline, terminal
        self._live = terminal.isatty()
        self._first: tuple[int, float] | None = None
        self._shown_step, self._shown_time = 0, -math.inf
        self._latest: dict[str, float] = {}
        self._width = 0

    def show(self, step: int, metrics: Mapping[str, float], total: int | None) -> None:
        now = time.monotonic()
        self._latest |= {key: metrics[key] for key in self._headline if key in metrics}
        if self._first is None:
            self._first = (step, now)
        quiet, walked = now - self._shown_time, step - self._shown_step
        due = step == total or (
            quiet >= PLAIN_SECONDS
            and (quiet >= PLAIN_MINUTE or walked >= PLAIN_FRACTION * (total or 0))
        )
        if not self._live and not due:
            return
        self._shown_step, self._shown_time = step, now
        line = self._line(step, total, now)
        if self._live:
            self._terminal.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._terminal.write(line + "\n")
        self._terminal.flush()

    def note(self, line: str) -> None:
        """Write a line that stays; a live line is written again with the next step."""
        line = one_line(line)
        self._terminal.write(("\r" + line.ljust(self._width) if self._live else line) + "\n")
        self._terminal.flush()
        self._width = 0

    def _line(self, step: int, total: int | None, now: float) -> str:
        assert self._first is not None
        first_step, first_time = self._first
        parts = [
            f"{self._stage:<9}{step}" + (f"/{total} {100 * step // total:3d}%" if total else "")
        ]
        if step > first_step and now > first_time:
            rate = (step - first_step) / (now - first_time)
            parts.append(f"{rate:.1f} step/s" if rate >= 1 else f"{1 / rate:.1f} s/step")
            if total and total > step:
                parts.append(f"ETA {clock((total - step) / rate)}")
        parts += [f"{_label(key)} {value:.3g}" for key, value in self._latest.items()]
        return "  ".join(parts)

    def close(self) -> None:
        if self._live and self._width:
            self._terminal.write("\n")
            self._terminal.flush()


def _label(key: str) -> str:
    """Show `sft/train/loss` as `loss`, `ppo/kl/sequence` as `kl/sequence`."""
    return key.partition("/")[2].removeprefix("train/") or key


def clock(seconds: float) -> str:
    """Return 75 as `1:15`, 3700 as `1:01:40`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
