"""Which checks of its prompt an answer passed, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from align.messages import say
from align.report.text import number
from align.scoring.rules import Check, grade

LONGEST = 32
"""Characters of a check's own words; what is longer is cut."""


@dataclass(frozen=True)
class Graded:
    """One check of one answer."""

    label: str
    grade: float
    core: bool

    @property
    def mark(self) -> str:
        """`✓`, `✗`, or the grade between them."""
        return {1.0: "✓", 0.0: "✗"}.get(self.grade, number(self.grade))

    @property
    def passed(self) -> bool:
        return self.grade == 1.0


def graded(answer: str, checks: Sequence[Check]) -> list[Graded]:
    """Every check in its order; an empty answer passes none, as the judge has it."""
    text = answer.strip()
    return [
        Graded(label(check), grade(text, check) if text else 0.0, bool(check.get("core")))
        for check in checks
    ]


def label(check: Check) -> str:
    """`contains Vienna`, `polite`: what the check asks."""
    kind = str(check["kind"])
    if kind in ("contains_any", "contains_all", "excludes"):
        return _with_values(kind, check["values"])
    told: Mapping[str, str] = {
        "regex": say("matches {pattern}", pattern=_cut(str(check.get("pattern")))),
        "number": say("the number {answer}", answer=check.get("answer")),
        "members": say("names {count} of them", count=check.get("count")),
        "first_named": say("names {answer} first", answer=check.get("answer")),
        "json": say("the JSON asked for"),
        "polite": say("polite"),
        "concise": say("concise"),
        "complete": say("a whole sentence"),
        "language": say("the language asked in"),
        "refuses": say("refuses"),
        "answers": say("does not refuse"),
        "admits_unknown": say("admits not to know"),
    }
    return told.get(kind, kind)


def _with_values(kind: str, values: Sequence[Any]) -> str:
    texts = [str(value) for value in values]
    if kind == "excludes":
        return say("without {values}", values=_cut(" / ".join(texts)))
    joint = " / " if kind == "contains_any" else " + "
    return say("contains {values}", values=_cut(joint.join(texts)))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
