"""Whether a stage moved its model at all, told from its own curve.

TRL's defaults on forty rows are fifteen steps, which train nothing. The thresholds are ours.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from align.messages import say
from align.runs.tracking import METRICS_FILE, read_metrics

FALL = 0.05
"""Share of its start by which a loss has to fall."""
NATS = 0.1
"""KL per answer that a policy has to reach."""
ENDS = 5
"""A fifth of the curve at each end is averaged: the loss of one batch says little."""
BY_LOSS = ("sft", "reward", "dpo", "kto")


def curve_of(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of an artifact's metrics.jsonl; none where it has no curve."""
    path = folder / METRICS_FILE
    return read_metrics(path) if path.is_file() else []


def standstill(stage: str, rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Return a line that says that a stage trained nothing and what to raise, or None.

    Args:
        rows: of the stage's metrics.jsonl, in order.
    """
    key = f"{stage}/train/loss" if stage in BY_LOSS else f"{stage}/kl/sequence"
    found = [(row["step"], row[key]) for row in rows if isinstance(row.get(key), int | float)]
    if not found:
        return None
    last, values = found[-1][0], [value for _, value in found]
    share = max(1, len(values) // ENDS)
    start, end = statistics.fmean(values[:share]), statistics.fmean(values[-share:])
    if stage not in BY_LOSS:
        if end >= NATS:
            return None
        return say(
            "{stage} did not move: KL {end:.2g} nats per answer after {last} iterations; raise "
            "{stage}.iterations or {stage}.learning_rate",
            stage=stage,
            end=end,
            last=last,
        )
    if end <= (1 - FALL) * start:
        return None
    return say(
        "{stage} did not move: {last} optimiser steps, loss {start:.3g} → {end:.3g}; raise "
        "{stage}.trainer.num_train_epochs (or max_steps), then {stage}.trainer.learning_rate",
        stage=stage,
        last=last,
        start=start,
        end=end,
    )
