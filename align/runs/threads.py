"""How many threads compute on a CPU, how they wait for each other, and whether they do any good.

The number of threads decides the rounding of sums, so it belongs to a result: the recipe sets it
(`model.threads`) and nothing here changes it. How a thread waits changes no bit. By default threads
of OpenMP burn the processor while they wait for the slowest; where another program needs it too,
they keep it from the very thread they wait for, and two threads are many times slower than one.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from align.messages import say

SPINS = "2000"
"""Turns a thread waits actively before it sleeps: microseconds, the length of a small product."""
TRIALS, PRODUCTS = 3, 8
"""Of the measurement: a tenth or two of a second on an idle core."""
SIZE = 512
SLOWER = 1.25
"""From which ratio on it is told: less may be chance."""


def set_threads(threads: int) -> None:
    """Compute with so many threads, which give way while they wait.

    Call it before torch is imported: OpenMP reads how to wait once, when it is loaded.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    os.environ.setdefault("KMP_BLOCKTIME", "0")  # the same for Intel's library, in milliseconds
    torch: Any = sys.modules.get("torch")
    if torch is None:  # not imported yet, and perhaps never needed: torch reads this when it is
        os.environ["OMP_NUM_THREADS"] = str(threads)
    else:
        torch.set_num_threads(threads)


def advice(threads: int) -> str | None:
    """One line if fewer threads compute faster here and now; takes a tenth of a second or two."""
    if threads == 1:
        return None
    seconds: dict[int, float] = {}
    for _ in range(TRIALS):  # in turn, and the best of each: what else runs comes and goes
        for count in (1, threads):
            seconds[count] = min(seconds.get(count, float("inf")), _seconds(count))
    return told(threads, alone=seconds[1], together=seconds[threads])


def told(threads: int, *, alone: float, together: float) -> str | None:
    """The advice, from the seconds that one thread and that all threads took for the same work."""
    if together < SLOWER * alone:
        return None
    return say(
        "warning: model.threads={threads} computes {factor:.1f} times slower than one "
        "thread: other programs use the processor; model.threads=1 is faster (its results "
        "differ in rounding, so stages made with another number run again)",
        threads=threads,
        factor=together / alone,
    )


def _seconds(threads: int) -> float:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        factor = torch.ones(SIZE, SIZE)
        torch.mm(factor, factor)
        start = time.perf_counter()
        for _ in range(PRODUCTS):
            torch.mm(factor, factor)
        return time.perf_counter() - start
    finally:
        torch.set_num_threads(before)
