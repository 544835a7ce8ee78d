"""Whether a stage moved its model far enough, told from its own curve.

TRL's defaults on forty rows are fifteen steps, which train nothing. The thresholds are ours.
"""

from __future__ import annotations

import math
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
BROKEN = 2.0
"""Nats per token of SFT. At 2.6 and 3.7 the embedded base wrote broken words; a large model may end
there on free talk and write well, so the line says "may"."""
BY_LOSS = ("sft", "reward", "dpo", "kto")


def curve_of(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of an artifact's metrics.jsonl; none where it has no curve."""
    path = folder / METRICS_FILE
    return read_metrics(path) if path.is_file() else []


def standstill(stage: str, rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Return a line that says that a stage trained too little and what to raise, or None.

    Args:
        rows: of the stage's metrics.jsonl, in order.
    """
    found = [(row["step"], value) for row in rows if (value := _read(stage, row)) is not None]
    if not found:
        return None
    last, values = found[-1][0], [value for _, value in found]
    share = max(1, len(values) // ENDS)
    start, end = statistics.fmean(values[:share]), statistics.fmean(values[-share:])
    if stage not in BY_LOSS:
        if end >= NATS:
            return None
        return say(
            "{stage} did not move: KL {kl} nats per answer after {steps} {unit}; raise "
            "ppo.iterations or ppo.learning_rate",
            stage=stage,
            kl=f"{end:.2g}",
            steps=last,
            unit=say("iterations") if stage == "ppo" else say("optimiser steps"),
        )
    if end <= (1 - FALL) * start:
        return _unlearnt(start, end, last) if stage == "sft" and end > BROKEN else None
    return say(
        "{stage} did not move: {last} optimiser steps, loss {start:.3g} → {end:.3g}; raise "
        "{stage}.trainer.num_train_epochs (or max_steps), then {stage}.trainer.learning_rate",
        stage=stage,
        last=last,
        start=start,
        end=end,
    )


def _unlearnt(start: float, end: float, last: int) -> str:
    return say(
        "sft has not learnt its rows yet: loss {start:.3g} → {end:.3g} nats per token in {last} "
        "optimiser steps, and answers may be broken above {bound:g}; raise "
        "sft.trainer.num_train_epochs, then sft.trainer.learning_rate",
        start=start,
        end=end,
        last=last,
        bound=BROKEN,
    )


def _read(stage: str, row: Mapping[str, Any]) -> float | None:
    """The loss of a step, or nats per answer: TRL's baselines log nats per token."""
    if stage in BY_LOSS:
        keys = [f"{stage}/train/loss"]
    elif f"{stage}/kl/sequence" in row:
        keys = [f"{stage}/kl/sequence"]
    else:
        keys = [f"{stage}/train/kl", f"{stage}/completions/mean_length"]
    values = [row.get(key) for key in keys]
    if not all(isinstance(value, int | float) for value in values):
        return None
    return math.prod(values)  # type: ignore[arg-type]
