"""A user's regular expression on a text that a model wrote, for a bounded time.

Python's `re` walks back: `(a+)+$` takes years on thirty letters. Nothing but a timer ends it, and
the timer counts this process's own computing, so that a busy machine changes no grade.
"""

from __future__ import annotations

import contextlib
import functools
import re

from align.data.limits import OutOfTimeError, cpu_limit
from align.messages import say

SECONDS = 0.5
"""Of computing, for one search; a pattern without a repeat inside a repeat takes under a
millisecond."""
LONGEST = 1000
"""Characters of a pattern."""
_PROBE_LENGTH = 40


def found(pattern: str, text: str) -> bool:
    """Whether the pattern is found; False where the search would take longer than SECONDS.

    On the main thread only, which is where Python lets a timer end something.
    """
    with contextlib.suppress(OutOfTimeError), cpu_limit(SECONDS):
        return re.search(pattern, text) is not None
    return False


@functools.lru_cache(maxsize=4096)
def fault(pattern: str) -> str | None:
    """What is wrong with a pattern, tried on short texts of its own letters; None if nothing is."""
    if len(pattern) > LONGEST:
        return say(
            "{count} characters, at most {most} are read; shorten it",
            count=len(pattern),
            most=LONGEST,
        )
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError) as error:
        return say("{error}; correct it", error=error)
    except RecursionError:
        return say("nested too deeply; correct it")
    letters = dict.fromkeys([*re.sub(r"[\\^$.|?*+(){}\[\]]", "", pattern)[:20], *"a1 가"])
    for letter in letters:
        for end in ("", "!", "\x00"):
            try:
                with cpu_limit(SECONDS):
                    compiled.search(letter * _PROBE_LENGTH + end)
            except OutOfTimeError:
                return say(
                    "takes more than {seconds:g} s on {count} times {letter!r}; write no repeat "
                    "inside a repeat",
                    seconds=SECONDS,
                    count=_PROBE_LENGTH,
                    letter=letter,
                )
    return None
