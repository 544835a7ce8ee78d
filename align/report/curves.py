"""Which curves of a stage are worth a picture, from the rows of its metrics.jsonl."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from align.report.pictures import Curve, curve

MOST_CURVES = 10
FEWEST_POINTS = 2
WORTH_SEEING = (
    r"(^|train/|eval/)loss$",
    r"accurac",
    r"reward/score$",
    r"kl/sequence$",
    r"train/(kl|reward)$",
    r"response/length$|completions/mean_length$",
    r"stop_rate$",
    r"probe/gold$",
    r"rewards/(?!score_)|mean_reward$|margin",
    r"entropy$",
    r"explained_variance$",
    r"policy/clip_fraction$",
    r"(policy|value)/loss$",
    r"train/grad_norm$",
)
"""Patterns of metric names, the first to be drawn first."""


@dataclass(frozen=True)
class StageCurves:
    stage: str
    curves: list[Curve]
    others: int
    """Metrics with a curve in metrics.jsonl that are not drawn."""


def stage_curves(stage: str, rows: Sequence[Mapping[str, Any]]) -> StageCurves:
    """The most telling curves of one stage; what is not finite is left out of its curve."""
    series: dict[str, tuple[list[int], list[float]]] = {}
    for row in rows:
        for key, value in row.items():
            if key in ("step", "time") or not isinstance(value, int | float):
                continue
            if math.isfinite(value):
                steps, values = series.setdefault(key, ([], []))
                steps.append(int(row["step"]))
                values.append(float(value))
    drawable = {key: found for key, found in series.items() if len(found[0]) >= FEWEST_POINTS}
    ranked = sorted(drawable, key=lambda key: (_rank(key), key))
    chosen = [key for key in ranked if _rank(key) < len(WORTH_SEEING)][:MOST_CURVES]
    curves = [curve(_title(stage, key), *drawable[key]) for key in chosen]
    return StageCurves(stage, curves, len(drawable) - len(chosen))


def _title(stage: str, key: str) -> str:
    return key.removeprefix(f"{stage}/").removeprefix("train/")


def _rank(key: str) -> int:
    return next((i for i, p in enumerate(WORTH_SEEING) if re.search(p, key)), len(WORTH_SEEING))
