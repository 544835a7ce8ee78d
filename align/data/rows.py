"""What a row is: three records, and the error that says what is wrong with one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from align.messages import one_line, say

Message = dict[str, str]
"""`{"role": "system" | "user" | "assistant", "content": text}`"""


class RowError(Exception):
    """One row that cannot be used: which field, what is wrong, what to do.

    Problem and remedy are sentences with `{values}`, said in the language of the reader.
    """

    def __init__(self, field: str, problem: str, remedy: str, /, **values: object) -> None:
        self.reason = one_line(f"{field}: {say(problem, **values)}")
        remedy = one_line(say(remedy, **values))
        super().__init__(say("{reason}; {remedy}", reason=self.reason, remedy=remedy))


@dataclass(frozen=True)
class Instruction:
    """A demonstration: a conversation that ends with the assistant."""

    messages: list[Message]
    where: str
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> list[Message]:
        return self.messages[:-1]


@dataclass(frozen=True)
class Preference:
    """Two answers to one prompt, the better one first."""

    prompt: list[Message]
    chosen: str
    rejected: str
    where: str
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prompt:
    """A conversation to be answered, with the checks a rule judge scores the answer by."""

    messages: list[Message]
    where: str
    checks: list[dict[str, Any]] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> list[Message]:
        return self.messages


class EncodedPrompt(NamedTuple):
    """A prompt as one record from the data to the score: what the policy reads, and what that is.

    Token ids are never read back into messages, nor looked up: equal ids may be unlike messages.
    """

    ids: list[int]
    messages: Sequence[Message] = ()
    checks: Sequence[dict[str, Any]] = ()


Row = TypeVar("Row")


def spread(rows: Sequence[Row], count: int) -> Sequence[Row]:
    """Some of the rows, evenly spaced: at least `count` where there are so many, under twice it."""
    return rows[:: max(1, len(rows) // count)]
