"""Metrics of a running stage: metrics.jsonl is the truth, wandb a mirror, the terminal a window.

Keys are `stage/group/name`; a step is an optimiser step (PPO: an iteration).
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from align.messages import Window, json_text, one_line, tell
from align.runs.mirror import WandbMirror

METRICS_FILE = "metrics.jsonl"


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
        mirror: gets what is logged; whoever made it closes it, once the artifact is published.
        window: shows how far the stage is; without one, each log is shown in `terminal`.
    """

    def __init__(
        self,
        folder: Path,
        stage: str,
        *,
        mirror: WandbMirror | None = None,
        window: Window | None = None,
        terminal: TextIO | None = None,
    ) -> None:
        # Unbuffered: one line is one write, so a killed run tears at most the last line.
        self._file = (folder / METRICS_FILE).open("ab", buffering=0)
        self._mirror = mirror
        self._window = window or Window(stage, terminal=terminal)

    def log(self, step: int, metrics: Mapping[str, float], *, total: int | None = None) -> None:
        """Record metrics of one step. Values that are not finite are written as strings."""
        plain = {key: float(value) for key, value in metrics.items()}
        row = {"step": step, "time": round(time.time(), 3)}
        row |= {k: v if math.isfinite(v) else str(v) for k, v in plain.items()}  # type: ignore[misc]
        self._file.write(json_text(row).encode("utf-8") + b"\n")
        if self._mirror is not None:
            self._mirror.log(step, plain)
        self._window.reached(step, total, plain)

    def reached(self, step: int, total: int) -> None:
        """Show how far the stage is, between two logs."""
        self._window.reached(step, total)

    def note(self, line: str) -> None:
        """Show a line in the terminal, above the progress of the stage."""
        tell(one_line(line))

    def close(self) -> None:
        self._window.close()
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
