"""What a rule about a PPO run is, and what it is told by; the rules are in align/ppo/alarms.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from align.messages import Sentence, say

Row = Mapping[str, Any]
Rows = Sequence[Row]


class Setting(NamedTuple):
    """What the rules know of a run besides its metrics."""

    episodes: int
    """Of one rollout."""
    max_new_tokens: int
    critic_warmup: int
    exact: bool = True
    """Whether the forward passes are in float32."""


@dataclass(frozen=True)
class Rule:
    """One thing that can go wrong."""

    name: str
    holds: Callable[[Rows, Setting], bool]
    reading: str
    """Metric to look at."""
    cause: Sentence
    remedy: Sentence
    ours: bool = True
    """Whether samplers and models of this project can do it; otherwise it is a bug in them."""

    @property
    def key(self) -> str:
        return f"ppo/alarm/{self.name}"

    def told(self, rows: Rows) -> str:
        """The cause with its figures after these rows."""
        found = [float(row[self.reading]) for row in rows if self.reading in row]
        label = self.reading.removeprefix("ppo/")
        return say(
            "{cause} ({label} {last:.3g}, at first {first:.3g})",
            cause=self.cause.said(),
            label=label,
            last=found[-1],
            first=found[0],
        )

    def advice(self) -> str:
        """What to do, in the language of the reader."""
        if self.ours:
            return self.remedy.said()
        return say(
            "{remedy}; with the samplers and models of this project it is a bug: please report it",
            remedy=self.remedy.said(),
        )
