"""A family of requests: how it asks, how a good and a bad answer sound, what is checked.

A pattern is a format string over the family's slots; `(은/는)`-like pairs choose the Korean particle
that fits the syllable before them. `unseen` wordings stand in no training split.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

Slots = dict[str, Any]


Patterns = dict[str, list[str]]


def inflect(text: str) -> str:
    """Resolve `(은/는)`-like pairs, the first form after a final consonant; `a` before a vowel is `an`."""

    def choose(match: re.Match[str]) -> str:
        before, quote, with_final, without = match.groups()
        final = (ord(before) - 0xAC00) % 28 if "가" <= before <= "힣" else before in "013678"
        if with_final == "으로" and "가" <= before <= "힣" and final == 8:
            final = 0
        return before + quote + (with_final if final else without)

    text = re.sub(r"(.)('?)\(([가-힣]+)/([가-힣]+)\)", choose, text)
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)


@dataclass(frozen=True)
class Family:
    """One kind of request. `slots(rng, language, held_out)` draws what its patterns speak of."""

    name: str
    slots: Callable[[Random, str, bool], Slots]
    checks: Callable[[Slots, str], list[dict]]
    seen: Patterns
    unseen: Patterns
    good: Patterns
    casual: Patterns
    wrong: Patterns | None = None  # None: the good patterns with {wrong} for {answer}
    max_chars: dict[str, int] = field(default_factory=lambda: {"en": 45, "ko": 24})
    style: bool = True  # False: the format leaves no room for a tone


def contains(*values: str) -> dict:
    return {"kind": "contains_any", "values": list(values), "core": True}


def excludes(*values: str) -> dict:
    return {"kind": "excludes", "values": list(values), "core": True}


def split(rows: list, held_out: bool, every: int = 5) -> list:
    """Every fifth row is held out of all training splits."""
    return [row for i, row in enumerate(rows) if (i % every == every - 1) == held_out]


def pick_two(rng: Random, rows: list) -> tuple[Any, Any]:
    first, second = rng.sample(rows, 2)
    return first, second


def json_text(**values: Any) -> str:
    return json.dumps(values, ensure_ascii=False)
