"""What a process is doing, counted: whoever takes long says so here, and a window may show it.

    for row in counted(rows, say("encoding")): …
    with doing(say("saving the model")): …

Nothing is printed here, and nobody has to look: library code counts, whoever runs it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(eq=False)
class Step:
    """Something that takes a while, and how far it is."""

    what: str
    total: int | None = None
    done: float = 0
    began: float = field(default_factory=lambda: time.monotonic())
    moved: float = 0.0
    """When it last came further."""

    def advance(self, count: float = 1) -> None:
        self.done += count
        self.moved = time.monotonic()


OPEN: list[Step] = []
"""What is going on now, the outermost first."""


@contextmanager
def doing(what: str, total: int | None = None) -> Iterator[Step]:
    """Within, `what` is going on; `total` counts what it will have done at its end."""
    one = Step(what, total)
    OPEN.append(one)
    try:
        yield one
    finally:
        OPEN.remove(one)


def counted(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """The items one by one, each counted when it is done with."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with doing(what, total) as one:
        for item in items:
            yield item
            one.advance()
