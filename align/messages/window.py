"""How far a stage is: one live line on a terminal, elsewhere a plain line now and then.

The line is what `align.messages.steps` counts, cut to the terminal's width:

    ppo      12/45  26%  sampling 64/256  7.1 s/step  ETA 3:54  kl/sequence 0.188

A thread looks at it several times a second, so that nothing is silent while something takes long.
"""

from __future__ import annotations

import io
import math
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Self, TextIO

from align.messages.columns import cut, fold, is_terminal, terminal_width, width
from align.messages.say import say
from align.messages.steps import OPEN, Step

LIVE_SECONDS, PLAIN_TICK = 0.2, 0.5
PLAIN_WAIT, PLAIN_SECONDS, PLAIN_FRACTION, PLAIN_MINUTE = 2.0, 5.0, 0.1, 60.0
"""Off a terminal something is told of once it has taken two seconds, then every tenth of the whole,
at least once a minute, and never twice within five seconds."""
STILL_SECONDS = 2.0
"""After which a line that stands still shows how long it has."""
ERASE = "\r\x1b[2K"
NAME = 9
STYLES = {"name": "bold", "inner": "cyan", "time": "dim", "value": ""}


class Part(NamedTuple):
    text: str
    kind: str


class Window:
    """Shows the open steps of a process; within `with`, by itself.

    Args:
        name: begins each line.
        headline: metrics that are shown.
        terminal: where to; what is no terminal gets whole lines without control characters.
        logs: whether it gets any.
    """

    def __init__(
        self,
        name: str,
        headline: Sequence[str] = (),
        terminal: TextIO | None = None,
        *,
        logs: bool = True,
    ) -> None:
        self.name, self.headline, self._logs = name, headline, logs
        self._stream = terminal or sys.stdout
        self.live = is_terminal(self._stream)
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._main: Step | None = None
        self._first: tuple[int, float] | None = None
        self._latest: dict[str, float] = {}
        self._told: tuple[Step | None, float, float] = (None, 0, -math.inf)
        self._drawn = False
        self._streams = (sys.stdout, sys.stderr)

    # ------------------------------------------------------------------------ what is known

    def reached(
        self, done: int, total: int | None, metrics: Mapping[str, float] | None = None
    ) -> None:
        """The main work of the stage has come so far; without metrics it is shown when due."""
        with self._lock:
            now = time.monotonic()
            if self._main is None:
                self._main = Step("", total, began=now)
                OPEN.insert(0, self._main)
            if self._first is None and done > 0:
                self._first = (done, now)  # not from the beginning: the first step warms up
            self._main.done, self._main.total, self._main.moved = done, total, now
            if metrics is None:
                return
            self._latest |= {key: metrics[key] for key in self.headline if key in metrics}
            self.refresh(at_once=True)
            if done == total:
                self._leave_main()

    def _leave_main(self) -> None:
        """The last line of the main work stays; what comes after it has a line of its own."""
        if self.live and self._drawn:
            self._stream.write("\n")
            self._stream.flush()
            self._drawn = False
        if self._main in OPEN:
            OPEN.remove(self._main)
        self._main = self._first = None
        self._latest = {}

    def refresh(self, *, at_once: bool = False) -> None:
        """Show what is going on, if it is time to."""
        with self._lock:
            steps, now = list(OPEN), time.monotonic()
            if not steps:
                self.erase()
            elif self.live:
                self._draw(self._parts(steps, now))
            elif self._logs and self._due(steps[0], now, at_once):
                self._told = (steps[0], steps[0].done, now)
                parts = self._parts(steps[:1], now)
                self._stream.write("  ".join(part.text for part in parts) + "\n")
                self._stream.flush()

    def _due(self, outer: Step, now: float, at_once: bool) -> bool:
        """Whether a plain line is: a log is read, not watched."""
        before, done, when = self._told
        quiet, walked = now - when, outer.done - done
        if before is not outer:
            return at_once or (quiet >= PLAIN_WAIT and now - outer.began >= PLAIN_WAIT)
        if at_once and (outer.done == outer.total or done == 0):
            return walked > 0
        tenth = outer.total is None or walked >= PLAIN_FRACTION * outer.total
        return quiet >= PLAIN_SECONDS and (quiet >= PLAIN_MINUTE or (walked > 0 and tenth))

    def _parts(self, steps: Sequence[Step], now: float) -> list[Part]:
        outer, inner = steps[0], steps[-1]
        count = _count(outer, now)
        if outer.total:
            count += f" {int(100 * outer.done / outer.total):3d}%"
        parts = [Part(f"{self.name:<{NAME}}{count}", "name")]
        if inner is not outer:
            parts.append(Part(_count(inner, now), "inner"))
        still = now - max(inner.moved, inner.began)
        if self.live and inner.total and still >= STILL_SECONDS:
            parts.append(Part(clock(still), "inner"))
        parts += [Part(told, "time") for told in self._pace(outer, now)]
        parts += [
            Part(f"{_label(key)} {value:.3g}", "value") for key, value in self._latest.items()
        ]
        return parts

    def _pace(self, outer: Step, now: float) -> Iterator[str]:
        """Rate and time left, once there is something to tell them from."""
        first, began = (0, outer.began) if outer is not self._main else self._first or (0, now)
        if outer.done <= first or outer.moved <= began:
            return
        rate = (outer.done - first) / (outer.moved - began)
        if outer is self._main and rate >= 1:
            yield say("{count} step/s", count=f"{rate:.1f}")
        elif outer is self._main:
            yield say("{seconds} s/step", seconds=f"{1 / rate:.1f}")
        if outer.total and outer.total > outer.done:
            left = (outer.total - outer.done) / rate - (now - outer.moved)
            yield say("ETA {time}", time=clock(max(0.0, left)))

    # ------------------------------------------------------------------------ the live line

    def _draw(self, parts: Sequence[Part]) -> None:
        """As many parts as the terminal has room for, the first one in any case."""
        from rich.console import Console
        from rich.text import Text

        room = max(
            1, terminal_width(self._stream) - 1
        )  # a full last column moves some terminals on
        head, line = cut(parts[0].text, room), Text()
        line.append(head[:NAME], STYLES["name"]).append(head[NAME:])
        used = width(head)
        for text, kind in parts[1:]:
            used += 2 + width(text)
            if used > room:
                break
            line.append("  ").append(text, STYLES[kind])
        # Written in one piece: a stop signal may come between any two.
        drawn = io.StringIO()
        Console(file=drawn, force_terminal=True, width=room + 1).print(line, end="", soft_wrap=True)
        self._stream.write(ERASE + drawn.getvalue())
        self._stream.flush()
        self._drawn = True

    def erase(self) -> None:
        """Take the live line away: something else is to be written."""
        with self._lock:
            if self._drawn:
                self._stream.write(ERASE)
                self._stream.flush()
                self._drawn = False

    # ------------------------------------------------------------------------ by itself

    def __enter__(self) -> Self:
        global _shown
        if self.live:
            sys.stdout, sys.stderr = (_above(stream, self) for stream in self._streams)
        _shown = self
        self._thread = threading.Thread(target=self._watch, name="window", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        global _shown
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        _shown = None
        if self.live:
            sys.stdout, sys.stderr = self._streams
        self.close()

    def close(self) -> None:
        """Leave the line of unfinished main work, and no other."""
        with self._lock:
            if self._main is not None:
                self.refresh()
                self._leave_main()
            self.erase()

    def _watch(self) -> None:
        while not self._ended.wait(LIVE_SECONDS if self.live else PLAIN_TICK):
            with suppress(ValueError):  # a stream that was closed: nobody looks
                self.refresh()


class _Above:
    """A stream whose writes come above the live line."""

    def __init__(self, stream: TextIO, window: Window) -> None:
        self._stream, self._window = stream, window

    def write(self, text: str) -> int:
        self._window.erase()
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _above(stream: TextIO, window: Window) -> Any:
    return _Above(stream, window) if is_terminal(stream) else stream


_shown: Window | None = None
"""The one that is shown by itself now."""


def tell_amidst(line: str) -> None:
    """Write a line from a signal handler: what was being written then is not waited for."""
    live = _shown is not None and _shown.live and os.isatty(2)
    lines = fold(line, terminal_width(sys.stderr)) if live else [line]
    os.write(2, f"{ERASE if live else ''}{chr(10).join(lines)}\n".encode())


def _count(step: Step, now: float) -> str:
    what = f"{step.what} " if step.what else ""
    if step.total is None and not step.done:
        return f"{what}{clock(now - step.began)}"
    return f"{what}{int(step.done)}" + (f"/{step.total}" if step.total else "")


def _label(key: str) -> str:
    """Show `sft/train/loss` as `loss`, `ppo/kl/sequence` as `kl/sequence`."""
    return key.partition("/")[2].removeprefix("train/") or key


def clock(seconds: float) -> str:
    """Return 75 as `1:15`, 3700 as `1:01:40`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
