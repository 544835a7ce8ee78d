"""Stop signals: SIGTERM and SIGINT end a stage at once, or where it asked to be asked.

One press of Ctrl-C may reach a process twice: from the terminal, and passed on by the process that
started it. Signals within a second of the first are therefore the same request.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType

from align.messages import say, tell_amidst

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME_REQUEST_SECONDS = 1.0


class Stopped(BaseException):
    """A stop signal; not an Exception, so that no library swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class Stop:
    """Whether a signal has asked to stop, and when that is heeded."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._since = 0.0
        self._deferred = False

    @property
    def asked(self) -> bool:
        return self._number is not None

    def now(self) -> None:
        """Heed a request.

        Raises:
            Stopped: always.
        """
        assert self._number is not None
        raise Stopped(self._number)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Within, the first signal is only noted, and work goes on to a point that can be saved.

        A second signal ends it at once.
        """
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.asked:  # after the last point at which that was looked at
            self.now()

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Within, stop signals come here."""
        self._number = None
        handlers = {number: signal.signal(number, self._handle) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._number is None:
            self._number, self._since = number, time.monotonic()
            if self._deferred:
                name = signal.Signals(number).name
                tell_amidst(say("{name}: saves after this step; again: stops at once", name=name))
                return
        elif time.monotonic() - self._since < SAME_REQUEST_SECONDS:
            return
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)  # one more ends the process, whatever it is doing
        raise Stopped(number)


STOP = Stop()
"""Of this process: signals are the process's."""
