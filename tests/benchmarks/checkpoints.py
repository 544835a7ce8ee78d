"""What checkpoints cost: SFT with LoRA on the embedded base, saved at every 50th step.

    python -m tests.benchmarks.checkpoints [steps=160] [KEY=VALUE of the recipe …]

One run over equal rows, so that both sides share a process, its neighbours and the work of a step:
at steps 6, 18, 30, … the stage saves, at 12, 24, 36, … it would and does not. Compared is the
processor time from such a step's beginning to the end of the second after it, so that what a save
does to the steps that follow (caches, memory) counts; a save and the one left out after it are a
pair. Steps that are not due (3, 9, 15, …) are compared in the same way: their difference is 0, and
its interval says what this can resolve. Processor time is that of all threads and of the system.
Beside it stands what passes within the saves themselves, which no neighbour blurs. Whether a step
is due is asked on both sides, and timed by itself. All are shares of 50 steps.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from align.evaluation.statistics import Estimate, bootstrap
from align.runs.checkpoints import Checkpoints
from align.runs.runner import main as stage_main
from stages import sft
from stages.support import resume

EVERY = 50
MEASURED = 6
"""Steps from one measured save to the next that is measured or left out."""
AFTER = 2
"""Steps after a save that count with it."""
TRIMMED = 0.1
"""Share of the pairs left out at each end: a neighbour's burst hits one of two."""


class Stopwatch(resume.Resume):
    """Notes when each step begins, and leaves every other save out."""

    begun: dict[int, float]
    """Processor time at the beginning of each step."""
    asking: list[float]
    """Processor time of what follows each step, saving apart."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        super().on_train_begin(args, state, control, **rest)
        Stopwatch.begun, Stopwatch.asking = {}, []

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.begun[state.global_step + 1] = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> Any:
        before = time.process_time()
        control = super().on_step_end(args, state, control, **rest)
        self.asking.append(time.process_time() - before)
        if state.global_step % (2 * MEASURED) == 0:
            control.should_save = False
        return control


@contextmanager
def timed(owner: Any, name: str, clock: Callable[[], float]) -> Iterator[list[float]]:
    """Within, what each call of a function took is noted."""
    true, took = getattr(owner, name), list[float]()

    def call(*args: Any, **kwargs: Any) -> Any:
        before = clock()
        try:
            return true(*args, **kwargs)
        finally:
            took.append(clock() - before)

    with mock.patch.object(owner, name, call):
        yield took


def equal_rows(path: Path) -> Path:
    """Rows of one length, so that every step is the same work."""
    first = Path("data/tiny/sft.jsonl").read_text("utf-8").splitlines()[0]
    path.write_text("\n".join([first] * 64), "utf-8")
    return path


def differences(begun: dict[int, float], at: Callable[[int], int]) -> list[float]:
    """Seconds by which a step that saves, and those after it, took longer than its partner's.

    Args:
        at: the n-th step that is compared; odd ones save.
    """
    last = max(begun) - AFTER - 1  # the last step is saved in any case
    windows = list[float]()
    while (step := at(len(windows) + 1)) <= last:
        windows.append(begun[step + AFTER + 1] - begun[step])
    pairs = zip(windows[::2], windows[1::2], strict=False)
    return [saved - not_saved for saved, not_saved in pairs]


def share(seconds: Sequence[float], whole: float) -> Estimate:
    """Percent of `whole`: the mean without the outermost, with its interval."""
    import numpy as np

    out = int(TRIMMED * len(seconds))
    kept = sorted(seconds)[out : len(seconds) - out]
    return bootstrap(100 * np.array(kept) / whole, resamples=10_000)


def main(argv: list[str]) -> int:
    given = dict(item.split("=", 1) for item in argv)
    steps = int(given.pop("steps", 160))
    with (
        tempfile.TemporaryDirectory(prefix="checkpoints-", dir=os.environ.get("TMPDIR")) as folder,
        mock.patch.object(resume, "Resume", Stopwatch),
        timed(Checkpoints, "save", time.process_time) as computing,
        timed(Checkpoints, "save", time.perf_counter) as saves,
        timed(os, "fsync", time.perf_counter) as syncs,
    ):
        items = [
            *(f"runs_dir={folder}", "lora={r: 16}", f"trainer.max_steps={steps}"),
            f"data.instructions.path={equal_rows(Path(folder) / 'rows.jsonl')}",
            *(f"checkpoint_every={MEASURED}", "model.threads=1"),
            *(f"{key}={value}" for key, value in given.items()),
        ]
        if code := stage_main(sft.STAGE, argv=["stages/recipes/tiny.yaml", *items]):
            return code
    begun, asking = Stopwatch.begun, Stopwatch.asking
    interval = EVERY * (begun[steps] - begun[1]) / (steps - 1)
    saving = differences(begun, lambda n: MEASURED * n)
    nothing = differences(begun, lambda n: MEASURED * n - MEASURED // 2)
    asked = 100 * sum(asking) / len(asking) * EVERY / interval
    print(f"{EVERY} steps: {interval:.2f} s of processor time, {len(saving)} pairs")
    print(f"a save and what follows it add {told(share(saving, interval))}")
    print(f"nothing adds                   {told(share(nothing, interval))}: what this resolves")
    print(f"a save itself computes         {told(share(computing, interval))}")
    print(f"asking what is due, every step: {asked:.3f} %")
    on_the_wall = (1e3 * sum(took) / len(saves) for took in (saves, syncs))
    print("a save takes {:.0f} ms on the wall, {:.0f} ms of them fsync".format(*on_the_wall))
    return 0


def told(estimate: Estimate) -> str:
    return "{mean:+.2f} % [{low:+.2f}, {high:+.2f}]".format(**estimate)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
