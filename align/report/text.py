"""Numbers and foreign text as readers see them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

from align import messages
from align.config.methods import METHODS
from align.messages import say
from align.messages.visible import SHOWN_CHARACTERS

MINUS = "−"
MISSING = "–"
NAMES = {method.name: method.label for method in METHODS}

_INTERVAL = re.compile(r"\[[^\[\]\n]{1,40}\]|\d %")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|~<>&$:@])")


def number(value: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """0.5 → `0.50`, −0.001 → `0.00`, with sign `+0.50`; None → `–`."""
    if value is None:
        return MISSING
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    if not text.strip("+-0."):
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def interval(estimate: dict[str, Any] | None, digits: int = 2, *, sign: bool = False) -> str:
    """`0.56 [0.53, 0.59]`; one observation has no interval and says so."""
    if estimate is None:
        return MISSING
    mean = number(estimate["mean"], digits, sign=sign)
    if estimate["low"] is None:
        return f"{mean} (n = {estimate['n']})"
    low, high = (number(estimate[end], digits, sign=sign) for end in ("low", "high"))
    return f"{mean} [{low}, {high}]"


def mean(estimate: dict[str, Any] | None, digits: int = 2) -> str:
    return MISSING if estimate is None else number(estimate["mean"], digits)


def nats(entry: Mapping[str, Any]) -> str:
    """The KL to SFT of a policy's entry: `1.2`, or `≤ 1.2` where only a bound is known."""
    if entry.get("kl_sequence") is not None:
        return number(entry["kl_sequence"]["mean"], 1)
    return f"≤ {number(entry['kl_bound'], 1)}"


def name(policy: str) -> str:
    """What the report calls a stage or its policy; most are called alike in every language."""
    if policy == "base":
        return say("base")
    if policy == "reward":
        return say("Reward model")
    if policy == "best_of_n":
        return say("best of n")
    return NAMES.get(policy, policy)


def listing(parts: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(parts) < 2:
        return "".join(parts)
    return say("{others} and {last}", others=", ".join(parts[:-1]), last=parts[-1])


def visible(text: str) -> str:
    """Show what would otherwise act unseen (align/messages/visible.py).

    A text longer than SHOWN_CHARACTERS is cut, and how much is missing is said.
    """
    shown = messages.visible(text[:SHOWN_CHARACTERS])
    missing = len(text) - SHOWN_CHARACTERS
    return (
        say("{text} … ({count} more characters)", text=shown, count=missing)
        if missing > 0
        else shown
    )


def markdown(text: str) -> str:
    """Foreign text as one line of markdown that means nothing but its characters."""
    line = visible(text).replace("\n", " ⏎ ")
    escaped = _MARKDOWN.sub(r"\\\1", line)
    return escaped.replace("\\<", "&lt;").replace("\\>", "&gt;").replace("\\&", "&amp;")


def whole(text: str) -> str:
    """Keep an interval, and a number and its %, on one line of a page."""
    return _INTERVAL.sub(lambda found: found[0].replace(" ", "\u00a0"), text)


def breakable(text: str) -> Markup:
    """The name of a metric, which a page may break after a slash or an underscore."""
    return Markup(re.sub(r"(?<=[/_])", "<wbr>", str(escape(text))))
