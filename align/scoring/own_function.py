"""A reward model of the user's own: the function `score` of a Python file.

It is given conversations, each a list of messages with the answer last, and returns a number for
each, the higher the better. What it does for that is its business: a rule, an endpoint, a language
model that is asked for its opinion. What it raises comes out as it is, with its own lines.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

from align.config.sources import FUNCTION
from align.data.rows import Message
from align.messages import counted, say
from align.messages.errors import ConfigError
from align.scoring.reward_model import Conversation


class OwnFunction:
    """Scores by a function that reads text."""

    limit: int | None = None

    def __init__(self, path: str) -> None:
        self.name, self.function = path, load(path)

    def fits(self, messages: Sequence[Message], *, room: int = 0) -> bool:
        return True  # what is too long for it, only the function knows

    def score(self, conversations: Sequence[Conversation], *, batch_size: int = 64) -> list[float]:
        scores: list[float] = []
        starts = range(0, len(conversations), batch_size)
        for start in counted(starts, say("scoring")):
            some = conversations[start : start + batch_size]
            scores += self._checked([[dict(m) for m in each.messages] for each in some])
        return scores

    def _checked(self, told: list[list[Message]]) -> list[float]:
        """What the function returns, where that is a finite number for each conversation."""
        found = list(self.function(told))
        if len(found) != len(told):
            raise ConfigError(
                "{path}: {function} returned {found} scores for {asked} conversations; return one "
                "for each, in their order",
                path=self.name,
                function=FUNCTION,
                found=len(found),
                asked=len(told),
            )
        for score in found:
            if not is_finite(score):
                raise ConfigError(
                    "{path}: {function} returned {score!r}; a score is a finite number",
                    path=self.name,
                    function=FUNCTION,
                    score=score,
                )
        return [float(score) for score in found]


def is_finite(score: Any) -> bool:
    """Whether a score is one number; those of numpy and torch count."""
    try:
        return math.isfinite(score)
    except (TypeError, ValueError, OverflowError):
        return False


def load(path: str) -> Callable[[list[list[Message]]], Sequence[float]]:
    """Run a Python file; return its function (that it has one, the recipe has checked)."""
    spec = importlib.util.spec_from_file_location("own_reward", path)
    assert spec is not None and spec.loader is not None, "a path that ends with .py has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return getattr(module, FUNCTION)
