"""Geometry of the pictures: where things stand, in numbers. The templates draw them as SVG.

Horizontal places are percentages of the drawing's width and vertical ones pixels, so that a picture
fits a phone and a desk while its text and marks keep their size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from align.messages import say
from align.report.facts import slices
from align.report.text import interval, name, number

PLOT_MARGIN = 1.5
"""Percent kept free left and right, so that a mark at the end of an axis is whole."""


@dataclass(frozen=True)
class Axis:
    """A horizontal scale with its ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Percent of the width, values outside put at the edge."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(PLOT_MARGIN + share * (100 - 2 * PLOT_MARGIN), 3)

    @property
    def marks(self) -> list[tuple[float, str]]:
        digits = max(0, -math.floor(math.log10(self.ticks[1] - self.ticks[0]) + 1e-9))
        return [(self.place(tick), number(tick, digits)) for tick in self.ticks]


UNIT = Axis(0.0, 1.0, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))


def nice_axis(values: Iterable[float]) -> Axis:
    """An axis over the values with about five round ticks."""
    seen = list(values)
    low, high = min(seen), max(seen)
    span = (high - low) or abs(high) or 1.0
    raw = span / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return Axis(first * step, last * step, tuple(i * step for i in range(first, last + 1)))


@dataclass(frozen=True)
class Mark:
    """One estimate: a sign at its mean, a line over its interval."""

    policy: str
    y: float
    x: float
    low: float
    high: float
    title: str
    minor: bool = False


@dataclass(frozen=True)
class ForestRow:
    """One line of a picture: what stands left of it."""

    label: str
    note: str
    policy: str = ""


@dataclass(frozen=True)
class Forest:
    """Estimates over one axis, row by row."""

    axis: Axis
    row_height: int
    rows: list[ForestRow]
    marks: list[Mark]
    band: tuple[float, float] | None = None
    """Left edge and width of SFT's interval."""
    rules: list[tuple[float, str]] = field(default_factory=list)
    """Vertical lines with a word each: chance, ceiling."""

    @property
    def height(self) -> int:
        return self.row_height * len(self.rows)


def mark(
    axis: Axis,
    estimate: Mapping[str, Any],
    policy: str,
    y: float,
    what: str,
    *,
    minor: bool = False,
) -> Mark:
    low, mean, high = ends(estimate)
    title = f"{what}: {interval(dict(estimate))}, n = {estimate['n']}"
    return Mark(policy, y, axis.place(mean), axis.place(low), axis.place(high), title, minor)


def overview(policies: Mapping[str, Any], judge: str) -> Forest:
    """The picture at the top: each policy on all prompts, and smaller on unseen templates."""
    parts = {key: entry[judge] for key, entry in policies.items()}
    shown = [part[s] for part in parts.values() for s in ("all", "unseen") if part[s]]
    axis = UNIT if judge == "gold" else axis_over(shown)
    rows, marks = [], []
    for i, (key, part) in enumerate(parts.items()):
        middle = 52 * i + 26
        rows.append(ForestRow(name(key), interval(part["all"]), key))
        both = part["unseen"] is not None
        y = middle - 8 if both else middle
        marks.append(
            mark(axis, part["all"], key, y, say("{policy}, all prompts", policy=name(key)))
        )
        if both:
            what = say("{policy}, unseen templates", policy=name(key))
            marks.append(mark(axis, part["unseen"], key, middle + 10, what, minor=True))
    return Forest(axis, 52, rows, marks, band=_band(axis, parts["sft"]["all"]))


def families(policies: Mapping[str, Any], judge: str) -> Forest:
    """Every policy in every part; the families come last, SFT's best first."""
    parts = {key: entry[judge] for key, entry in policies.items()}
    general = slices(parts["sft"]).items()
    by_mean = sorted(parts["sft"]["family"].items(), key=lambda item: -item[1]["mean"])
    pitch = 11
    height = pitch * len(parts) + 14
    shown = [found for part in parts.values() for _, found in _all_slices(part)]
    axis = UNIT if judge == "gold" else axis_over(shown)
    rows, marks = [], []
    for i, (label, start) in enumerate([*general, *by_mean]):
        rows.append(ForestRow(label, f"n = {start['n']}"))
        for j, (key, part) in enumerate(parts.items()):
            y = height * i + 7 + pitch * (j + 0.5)
            found = dict(_all_slices(part))[label]
            marks.append(mark(axis, found, key, y, f"{name(key)}, {label}"))
    return Forest(axis, height, rows, marks)


def reward_accuracy(card: Mapping[str, Any]) -> Forest:
    """The reward model over all pairs and by family, with what it is to be compared with."""
    rows = [ForestRow(say("all pairs"), f"n = {card['accuracy']['n']}")]
    marks = [mark(UNIT, card["accuracy"], "reward", 14, say("all pairs"))]
    for i, (label, found) in enumerate(card["family"].items(), start=1):
        rows.append(ForestRow(label, f"n = {found['n']}"))
        marks.append(mark(UNIT, found, "reward", 28 * i + 14, label, minor=True))
    rules = [(UNIT.place(0.5), say("chance"))]
    if card["ceiling"] is not None:
        rules.append((UNIT.place(card["ceiling"]), say("ceiling")))
    return Forest(UNIT, 28, rows, marks, rules=rules)


def _all_slices(part: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [*slices(part).items(), *part["family"].items()]


def ends(estimate: Mapping[str, Any]) -> tuple[float, float, float]:
    """Low, mean, high; a lone observation is all three."""
    mean = estimate["mean"]
    low, high = (mean if estimate[end] is None else estimate[end] for end in ("low", "high"))
    return low, mean, high


def axis_over(estimates: Iterable[Mapping[str, Any]]) -> Axis:
    """An axis over estimates and their intervals."""
    return nice_axis(value for estimate in estimates for value in ends(estimate))


def _band(axis: Axis, estimate: Mapping[str, Any]) -> tuple[float, float] | None:
    if estimate["low"] is None:
        return None
    low, high = axis.place(estimate["low"]), axis.place(estimate["high"])
    return low, round(high - low, 3)


@dataclass(frozen=True)
class Curve:
    """One metric over the steps of a stage, in a box of 100 by 100."""

    title: str
    unit: str
    points: str
    low: str
    high: str
    last: str
    steps: tuple[int, int]
    zero: float | None
    """Height of the line at 0, where the values lie on both sides of it."""


BOX = 100.0
MOST_POINTS = 240


def curve(title: str, unit: str, steps: Sequence[int], values: Sequence[float]) -> Curve:
    """Draw a series; long ones as means of equal stretches, so that noise stays honest."""
    steps_drawn, drawn = _thinned(steps, values)
    low, high = min(drawn), max(drawn)
    span = (high - low) or 1.0
    across = (steps_drawn[-1] - steps_drawn[0]) or 1
    points = [
        f"{BOX * (step - steps_drawn[0]) / across:.2f},{BOX * (high - value) / span:.2f}"
        for step, value in zip(steps_drawn, drawn, strict=True)
    ]
    zero = round(BOX * high / span, 2) if low < 0 < high else None
    low_label, high_label, last_label = (
        _short(0.0 if abs(value) < span / 1000 else value) for value in (low, high, drawn[-1])
    )
    ends = (steps[0], steps[-1])
    return Curve(title, unit, " ".join(points), low_label, high_label, last_label, ends, zero)


def _thinned(steps: Sequence[int], values: Sequence[float]) -> tuple[list[float], list[float]]:
    stretch = math.ceil(len(values) / MOST_POINTS)
    cuts = range(0, len(values), stretch)
    means = [(steps[i : i + stretch], values[i : i + stretch]) for i in cuts]
    return [sum(s) / len(s) for s, _ in means], [sum(v) / len(v) for _, v in means]


def _short(value: float) -> str:
    if value and not 1e-3 <= abs(value) < 1e4:
        return f"{value:.1e}".replace("-", "−")
    return number(value, 3 if abs(value) < 1 else 2 if abs(value) < 100 else 0)
