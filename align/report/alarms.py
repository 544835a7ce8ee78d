"""What the alarms of a run said, in words: from the rows of its metrics.jsonl."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from align.messages import say
from align.ppo.alarms import RULES
from align.ppo.rule import Rule

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Spell:
    """One alarm from its beginning to its end."""

    name: str
    when: str
    cause: str
    remedy: str
    first: int
    """Iteration."""


@dataclass(frozen=True)
class StageAlarms:
    stage: str
    iterations: int
    spells: list[Spell]


def stage_alarms(stage: str, rows: Rows) -> StageAlarms | None:
    """The alarms of one stage in the order they began; None if nothing watched it."""
    if not any(f"{stage}/policy/steps" in row for row in rows):
        return None
    spells = [spell for rule in RULES for spell in _spells(rule, rows)]
    return StageAlarms(stage, len(rows), sorted(spells, key=lambda spell: spell.first))


def _spells(rule: Rule, rows: Rows) -> Iterator[Spell]:
    begun: int | None = None
    for index, row in enumerate(rows):
        on = row.get(rule.key) == 1.0
        if on and begun is None:
            begun = index
        elif not on and begun is not None:
            yield _spell(rule, rows, begun, int(row["step"]))
            begun = None
    if begun is not None:
        yield _spell(rule, rows, begun, None)


def _spell(rule: Rule, rows: Rows, begun: int, last: int | None) -> Spell:
    first = int(rows[begun]["step"])
    if last is None:
        when = say("iteration {first} to the end", first=first)
    else:
        when = say("iteration {first} to {last}", first=first, last=last)
    return Spell(rule.name, when, rule.told(rows[: begun + 1]), rule.advice(), first)
