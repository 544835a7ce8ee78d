"""Gold and reward against KL: what a policy gained for the way it went, beside best-of-n.

Best-of-n is the yardstick because it trains nothing: at the KL of any policy it says what the
reward model alone could have given there (align/evaluation/best_of_n.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from align.messages import say
from align.report.pictures import Axis, axis_over, ends, nice_axis
from align.report.text import interval, name, nats, number

HEIGHT = 220
"""Pixels of a panel's drawing."""


@dataclass(frozen=True)
class Point:
    """A policy: its sign, and its intervals across and upwards."""

    policy: str
    x: float
    y: float
    across: tuple[float, float]
    upwards: tuple[float, float]
    title: str


@dataclass(frozen=True)
class CurvePoint:
    """Best-of-n for one n, with the line that leads there from the one before."""

    x: float
    y: float
    before: tuple[float, float] | None
    label: str


@dataclass(frozen=True)
class Panel:
    """One quantity over KL."""

    title: str
    axis: Axis
    heights: list[tuple[float, str]]
    """Places and words of the ticks upwards."""
    points: list[Point]
    stops: list[CurvePoint]

    @property
    def height(self) -> int:
        return HEIGHT


def panels(summary: Mapping[str, Any]) -> list[Panel]:
    """Gold, where there is any, and reward; none if no policy but SFT has a known KL."""
    if len(_shown(summary)) < 2:
        return []
    return [_panel(summary, quantity) for quantity in quantities(summary)]


def quantities(summary: Mapping[str, Any]) -> list[str]:
    return [key for key in ("gold", "reward") if summary["policies"]["sft"][key] is not None]


def quantity_name(quantity: str) -> str:
    return say("gold") if quantity == "gold" else say("reward")


def _shown(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The policies with a place in the picture; the base is too far away to share it."""
    return {key: entry for key, entry in summary["policies"].items() if key != "base"}


def _panel(summary: Mapping[str, Any], quantity: str) -> Panel:
    shown = _shown(summary)
    curve = (summary["best_of_n"] or {"curve": []})["curve"]
    spots = {key: (_kl(entry), entry[quantity]["all"]) for key, entry in shown.items()}
    stations = [(_exactly(one["kl_bound"]), one[quantity]) for one in curve]
    everything = [*spots.values(), *stations]
    axis = nice_axis([0.0, *(kl[end] for kl, _ in everything for end in kl)])
    up = axis_over(found for _, found in everything)
    points = [
        Point(
            key,
            axis.place(kl["mean"]),
            _height(up, found["mean"]),
            (axis.place(kl["low"]), axis.place(kl["high"])),
            (_height(up, ends(found)[0]), _height(up, ends(found)[2])),
            f"{name(key)}: KL {nats(shown[key])}, {quantity_name(quantity)} {interval(found)}",
        )
        for key, (kl, found) in spots.items()
    ]
    places = [(axis.place(kl["mean"]), _height(up, found["mean"])) for kl, found in stations]
    stops = [
        CurvePoint(*place, before, str(one["n"]) if one["n"] > 1 else "")  # best of 1 is SFT
        for place, before, one in zip(places, [None, *places], curve, strict=False)
    ]
    heights = [
        (_height(up, tick), word) for tick, (_, word) in zip(up.ticks, up.marks, strict=True)
    ]
    return Panel(quantity_name(quantity), axis, heights, points, stops)


def _kl(entry: Mapping[str, Any]) -> dict[str, float]:
    known = entry["kl_sequence"]
    if known is None:
        return _exactly(entry["kl_bound"])
    low, mean, high = ends(known)
    return {"mean": mean, "low": low, "high": high}


def _exactly(value: float) -> dict[str, float]:
    return dict.fromkeys(("mean", "low", "high"), value)


def _height(axis: Axis, value: float) -> float:
    return round(HEIGHT * (axis.high - value) / (axis.high - axis.low), 2)


def rows(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Label, KL, each quantity, and each quantity's lead over best-of-n at that KL, if known."""
    measured = quantities(summary)
    found = summary["best_of_n"]
    lines = []
    for key, entry in _shown(summary).items():
        values = [interval(entry[what]["all"]) for what in measured]
        ahead = {} if found is None else found["against"].get(key) or {}
        leads = [interval(ahead.get(what), sign=True) for what in measured if found]
        lines.append((name(key), nats(entry), *values, *leads))
    for one in found["curve"] if found else []:
        values = [interval(one[what]) for what in measured]
        lines.append((say("best of {n}", n=one["n"]), nats(one), *values, *("" for _ in measured)))
    return lines


def words(summary: Mapping[str, Any]) -> list[str]:
    """Whether each trained policy lies above or below the best-of-n curve; empty without one."""
    found = summary["best_of_n"]
    if found is None:
        return []
    return [_said(summary, key, ahead) for key, ahead in found["against"].items()]


def _said(summary: Mapping[str, Any], key: str, ahead: Mapping[str, Any] | None) -> str:
    kl = number(summary["policies"][key]["kl_sequence"]["mean"], 1)
    if ahead is None:
        last = summary["best_of_n"]["curve"][-1]
        return say(
            "{policy} is {kl} nats from SFT, farther than best of {n} ({bound}), where the curve "
            "ends.",
            policy=name(key),
            kl=kl,
            n=last["n"],
            bound=number(last["kl_bound"], 1),
        )
    measured = quantities(summary)
    told = ", ".join(
        f"{quantity_name(what)} {interval(ahead[what], sign=True)}" for what in measured
    )
    low, _, high = ends(ahead[measured[0]])
    values = {"policy": name(key), "kl": kl, "told": told}
    if low > 0:
        return say(
            "{policy} lies above the best-of-n curve at its KL of {kl} nats: {told}.", **values
        )
    if high < 0:
        return say(
            "{policy} lies below the best-of-n curve at its KL of {kl} nats: {told}.", **values
        )
    return say("{policy} cannot be told from best-of-n at its KL of {kl} nats: {told}.", **values)
