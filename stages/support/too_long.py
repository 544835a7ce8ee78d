"""Rows that are too long for a stage: few are dropped and counted, many are refused."""

from __future__ import annotations

from collections.abc import Sequence

from align.messages import say
from align.messages.errors import DataError

LONGEST_SHARE = 0.5
"""Share of rows that may be longer than `max_length`; more points to a wrong setting."""


def refuse_long(
    lengths: Sequence[int], name: str, *, limit: int, room: int = 0, positions: int | None = None
) -> str:
    """Refuse data of which most rows are too long; return in words what too long is.

    Args:
        lengths: tokens of each row, without an answer that is to come.
        name: of the data, below `data`.
        limit: that a row may have, beside the answer.
        room: tokens of that answer.
        positions: that the model has, if that is known.
    """
    told = say("longer than max_length={limit} tokens", limit=limit + room)
    told += say(", {room} of them for the answer", room=room) if room else ""
    dropped = sum(each > limit for each in lengths)
    if dropped > LONGEST_SHARE * len(lengths):
        longest = max(lengths) + room
        remedy = say("set max_length={longest} to keep them all", longest=longest)
        if positions is not None and longest > positions:
            remedy = say(
                "the longest needs {longest} and the model has {positions} positions: shorten "
                "the rows, or choose a model with more",
                longest=longest,
                positions=positions,
            )
        raise DataError(
            "data.{name}: {dropped} of {rows} rows are {told}; {remedy}",
            name=name,
            dropped=dropped,
            rows=len(lengths),
            told=told,
            remedy=remedy,
        )
    return told
