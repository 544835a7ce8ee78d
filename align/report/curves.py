"""Which curves of a stage are worth a picture, from the rows of its metrics.jsonl.

What is drawn, in which order and with which unit is said by two tables: PPO's own of all its
metrics (align/ppo/metrics.py), and the one below of what TRL's trainers log.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from align.messages import Sentence
from align.ppo.metrics import METRICS
from align.report.pictures import Curve, curve

Series = dict[str, tuple[list[int], list[float]]]

LOGGED = {
    "sft/train/loss": Sentence("nats per token"),
    "reward/train/loss": Sentence("nats per pair"),
    "dpo/train/loss": Sentence("nats per pair"),
    "kto/train/loss": Sentence("per response, 0 to 1"),
    "*/train/loss": Sentence("what the trainer minimises"),
    "*/train/mean_token_accuracy": Sentence("share of tokens"),
    "*/train/accuracy": Sentence("share of pairs"),
    "*/train/margin": Sentence("reward, the gap"),
    "*/train/mean_reward": Sentence("reward"),
    "*/rewards/accuracies": Sentence("share of pairs"),
    "*/rewards/margins": Sentence("implicit reward, the gap"),
    "*/rewards/chosen": Sentence("implicit reward"),
    "*/rewards/rejected": Sentence("implicit reward"),
    "*/reward/score": Sentence("reward"),
    "*/train/reward": Sentence("score that is maximised"),
    "rloo/train/kl": Sentence("nats per response"),
    "grpo/train/kl": Sentence("nats per token"),
    "kto/train/kl": Sentence("nats per response"),
    "*/train/kl": Sentence("nats"),
    "*/train/entropy": Sentence("nats per token"),
    "*/completions/mean_length": Sentence("tokens"),
    "*/completions/clipped_ratio": Sentence("share of responses that were cut"),
    "*/train/grad_norm": Sentence("before clipping"),
}
"""Units of what TRL's trainers log (trl 1.16), in the order of their curves.

A key is that of metrics.jsonl; `*` holds for every stage that has no row of its own.
"""


@dataclass(frozen=True)
class StageCurves:
    stage: str
    curves: list[Curve]
    others: int
    """Metrics with a curve in metrics.jsonl that are not drawn."""


def stage_curves(stage: str, rows: Sequence[Mapping[str, Any]]) -> StageCurves:
    """The curves of one stage; what is not finite is left out of its curve."""
    drawable = {key: found for key, found in _series(rows).items() if len(found[0]) > 1}
    curves = [
        curve(key.removeprefix(f"{stage}/"), unit.said(), *drawable[key])
        for key, unit in _tabled(stage).items()
        if key in drawable
    ]
    return StageCurves(stage, curves, len(drawable) - len(curves))


def _tabled(stage: str) -> dict[str, Sentence]:
    """The keys that a stage may have a curve of, in order, each with its unit."""
    ours = (metric for metric in METRICS.values() if metric.curve)
    own = {metric.key: metric.unit for metric in ours if metric.key.startswith(f"{stage}/")}
    if own:
        return own
    special = {row: unit for row, unit in LOGGED.items() if not row.startswith("*")}
    rows = {row.replace("*", stage): unit for row, unit in LOGGED.items()}
    return {key: unit for key, unit in (rows | special).items() if key.startswith(f"{stage}/")}


def _series(rows: Sequence[Mapping[str, Any]]) -> Series:
    """Steps and values of each metric."""
    series: Series = {}
    for row in rows:
        for key, value in row.items():
            if key in ("step", "time") or not isinstance(value, int | float):
                continue
            if math.isfinite(value):
                steps, values = series.setdefault(key, ([], []))
                steps.append(int(row["step"]))
                values.append(float(value))
    return series
