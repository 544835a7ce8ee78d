"""Bounds for what somebody else wrote and this process runs: chat templates, regular expressions.

Either can be made never to end, or to fill the memory, by a line that looks harmless. Time is this
process's own computing, so that a busy machine changes nothing. Bounds hold on the main thread,
which is the one that Python's signals reach; the bound of memory holds on Linux.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TypeVar

Result = TypeVar("Result")

MEMORY = 1 << 30
"""Bytes that may be asked for on top of what the process has."""
_LAST_RESORT = 4
"""Ticks without an answer until the kernel ends the process: what computes in C hears no signal."""


class OutOfTimeError(Exception):
    """What was run took longer than it may."""


def _raise(_number: int, _frame: FrameType | None) -> None:
    raise OutOfTimeError


@contextlib.contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTimeError in what takes longer, once; for what Python itself can interrupt."""
    if not _on_main_thread():
        yield
        return
    handler = signal.signal(signal.SIGVTALRM, _raise)
    left, interval = signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, left, interval)
        signal.signal(signal.SIGVTALRM, handler)


class Watch:
    """Runs one short thing after the other, each for `seconds` of computing and MEMORY at most.

    A timer for each would cost more than many of them take. One timer ticks as long as things are
    run: what is there at two ticks has taken too long, and where no tick is heard at all the kernel
    ends the process.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._count = 0
        self._running = self._seen = 0
        self._armed = False
        self._bound = 0
        os.register_at_fork(after_in_child=self._forget)  # a child has no timer of its parent's
        atexit.register(self._disarm)  # an interpreter that ends takes the handler away first

    def run(self, action: Callable[[], Result]) -> Result:
        """Return what the action returns.

        Raises:
            OutOfTimeError: it took longer than `seconds`, at most twice as long.
            MemoryError: it asked for more than MEMORY.
        """
        if not _on_main_thread():
            return action()
        self._count += 1
        self._running = self._count
        if not self._armed:
            self._arm()
        try:
            return self._in_memory(action)
        except MemoryError:  # the process may have grown since it was looked at
            self._bound = _size() + MEMORY
            return self._in_memory(action)
        finally:
            self._running = 0

    def _in_memory(self, action: Callable[[], Result]) -> Result:
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        if sys.platform != "linux" or soft != resource.RLIM_INFINITY:
            return action()
        resource.setrlimit(resource.RLIMIT_AS, (self._bound, hard))
        try:
            return action()
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

    def _arm(self) -> None:
        self._armed, self._seen, self._bound = True, 0, _size() + MEMORY
        signal.signal(signal.SIGVTALRM, self._tick)
        signal.setitimer(signal.ITIMER_PROF, _LAST_RESORT * self.seconds)
        signal.setitimer(signal.ITIMER_VIRTUAL, self.seconds, self.seconds)

    def _tick(self, _number: int, _frame: FrameType | None) -> None:
        if self._running and self._running == self._seen:
            self._disarm()
            raise OutOfTimeError
        if not self._running and self._seen == self._count:
            self._disarm()
            return
        self._seen = self._running or self._count
        self._bound = _size() + MEMORY
        signal.setitimer(signal.ITIMER_PROF, _LAST_RESORT * self.seconds)

    def _disarm(self) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        self._forget()

    def _forget(self) -> None:
        self._armed, self._running = False, 0


def in_child(action: Callable[[], str], *, seconds: float) -> str | None:
    """Do something in a forked child, which the kernel ends after `seconds` of computing.

    Returns:
        What the action returned; None where the child was ended.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _speak(action, writing, seconds)
    os.close(writing)
    try:
        return _listen(reading, until=time.monotonic() + 30 + 10 * seconds)
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _speak(action: Callable[[], str], writing: int, seconds: float) -> None:
    """Never returns: a child must not run on as a second parent."""
    code = 1
    try:
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGXCPU):
            signal.signal(name, signal.SIG_DFL)
        quiet = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(quiet, stream)
        whole = int(time.process_time() + seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 1))
        os.write(writing, b"." + action().encode("utf-8", "replace")[:60_000])
        code = 0
    finally:
        os._exit(code)


def _listen(reading: int, *, until: float) -> str | None:
    said = b""
    while (left := until - time.monotonic()) > 0 and select.select([reading], [], [], left)[0]:
        piece = os.read(reading, 65536)
        if not piece:
            return said[1:].decode("utf-8", "replace") if said else None
        said += piece
    return None


def _on_main_thread() -> bool:
    return threading.get_ident() == threading.main_thread().ident


def _size() -> int:
    """Bytes of address space that the process has."""
    if sys.platform != "linux":
        return 0
    pages = int(Path("/proc/self/statm").read_bytes().split(b" ", 1)[0])
    return pages * resource.getpagesize()
