"""Bounds for what somebody else wrote and this process runs: chat templates, regular expressions.

Either can be made never to end, or to fill the memory, by a line that looks harmless. Time is this
process's own computing, so that a busy machine changes nothing. Bounds hold on the main thread,
which is the one that Python's signals reach; the bound of memory holds on Linux.
"""

from __future__ import annotations

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
"""Times the seconds that something may take, until the kernel ends the process."""


OUT_OF_TIME = {-signal.SIGXCPU, -signal.SIGPROF, -signal.SIGKILL}
"""How the kernel ends what computes in C for too long; the last also what waits for ever."""


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
    """Runs one short thing after the other, each for `seconds` of computing and MEMORY at most."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._listens = seconds, False

    def run(self, action: Callable[[], Result]) -> Result:
        """Return what the action returns.

        Raises:
            OutOfTimeError: it took longer than `seconds`.
            MemoryError: it asked for more than MEMORY.
        """
        if not _on_main_thread():
            return action()
        if not self._listens:  # once: it costs more than the timers
            signal.signal(signal.SIGVTALRM, _raise)
            self._listens = True
        # What computes in C hears no signal; the kernel ends the process then.
        signal.setitimer(signal.ITIMER_PROF, _LAST_RESORT * self.seconds)
        signal.setitimer(signal.ITIMER_VIRTUAL, self.seconds)
        try:
            return _in_memory(action)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)  # first: the other one may raise here yet
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def in_child(action: Callable[[], str], *, seconds: float) -> str | int:
    """Do something in a forked child, which the kernel ends after `seconds` of computing.

    Returns:
        What the action returned; where the child ended before, its exit code, or minus the signal,
        which is one of OUT_OF_TIME where it took too long.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _speak(action, writing, seconds)
    os.close(writing)
    try:
        said = _listen(reading, until=time.monotonic() + 30 + 10 * seconds)
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if said is None else said


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


def _in_memory(action: Callable[[], Result]) -> Result:
    """Bound anew each time: what asks for memory in C may end a process that has grown since."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform != "linux" or soft != resource.RLIM_INFINITY:
        return action()
    resource.setrlimit(resource.RLIMIT_AS, (_size() + MEMORY, hard))
    try:
        return action()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _on_main_thread() -> bool:
    return threading.get_ident() == threading.main_thread().ident


def _size() -> int:
    """Bytes of address space that the process has."""
    with Path("/proc/self/statm").open("rb", buffering=0) as statm:
        return int(statm.read(64).split(b" ", 1)[0]) * resource.getpagesize()
