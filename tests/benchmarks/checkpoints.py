"""What checkpoints cost: SFT with LoRA on the embedded world, saving every 50 steps and not at all.

    python -m tests.benchmarks.checkpoints [pairs=5] [steps=150]

The two alternate, each run is a fork of a process that has imported the libraries and trained
nothing, and its processor time counts, that of the system included. Without checkpoints nothing is
saved at the end either.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from dataclasses import replace

from align.runs.runner import main as stage_main
from stages import sft
from stages.pipeline import preload
from stages.support import training

EVERY = 50


def seconds(folder: str, number: int, steps: int, *, saving: bool) -> float:
    """Processor time of one run."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        stage = replace(sft.STAGE, resumes=saving)
        argv = [
            "stages/recipes/tiny.yaml",
            *(f"runs_dir={folder}", f"run=run-{number}-{saving}", "lora={r: 16}"),
            *(f"checkpoint_every={EVERY}", f"trainer.max_steps={steps}", "model.threads=1"),
        ]
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  until the end of the process
        os._exit(stage_main(stage, argv=argv))
    _, status, used = os.wait4(child, 0)
    assert status == 0, "the run failed"
    return used.ru_utime + used.ru_stime


def main(argv: list[str]) -> int:
    given = dict(item.split("=") for item in argv)
    pairs, steps = int(given.get("pairs", 5)), int(given.get("steps", 150))
    preload(("sft",))
    assert training  # its libraries too are imported once
    ratios = []
    with tempfile.TemporaryDirectory(prefix="checkpoints-") as folder:
        for number in range(pairs):
            order = (True, False) if number % 2 else (False, True)
            took = {saving: seconds(folder, number, steps, saving=saving) for saving in order}
            ratios.append(took[True] / took[False])
            print(f"with {took[True]:.2f} s, without {took[False]:.2f} s", flush=True)
    median = 100 * (statistics.median(ratios) - 1)
    print(f"checkpoints every {EVERY} of {steps} steps: {median:+.1f} % (median of {pairs} pairs)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
