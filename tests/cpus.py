"""The numeric tests under each instruction set that this CPU has, on one thread and on two.

    make test-cpus                      all of PARTS, six times in turn, and a table
    make test-cpus FILES=tests/…/x.py   only there

PyTorch chooses its kernels by the CPU, and sums in another order on each: a test whose margin is
too small passes here and fails elsewhere. ATEN_CPU_CAPABILITY chooses for it, as far as the CPU
goes. Two threads that share a core with a neighbour run many times slower: best on a quiet machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

PARTS = (
    *(f"tests/align/{folder}" for folder in ("maths", "models", "sampling", "scoring", "ppo")),
    "tests/align/evaluation",
    "tests/stages/methods/test_preference_losses.py",
    "tests/test_parity_trl.py",
)
"""Where the numbers are: all that multiplies matrices and needs no trained pipeline."""
CAPABILITIES = ("default", "avx2", "avx512")
"""Of x86, each including those before it."""
THREADS = (1, 2)
ROOT = Path(__file__).parent.parent


def available(best: str) -> tuple[str, ...]:
    """The instruction sets of a CPU whose best, by PyTorch's name, is this one."""
    known = best.lower()
    if known not in CAPABILITIES:  # other kinds of CPU have one set of kernels, or choose alone
        return ("default",)
    return CAPABILITIES[: CAPABILITIES.index(known) + 1]


def environment(capability: str, threads: int) -> dict[str, str]:
    return os.environ | {"ATEN_CPU_CAPABILITY": capability, "OMP_NUM_THREADS": str(threads)}


def run(capability: str, threads: int, parts: list[str]) -> tuple[int, list[str]]:
    """Pytest's exit code, and its lines from the first failure's name to the summary."""
    command = [sys.executable, "-m", "pytest", "-rfE", "--color=no", *parts]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(capability, threads),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode, [*lines, last_line(done.stdout + done.stderr)]


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["pytest said nothing"])[-1].strip("= ")


def main(parts: list[str]) -> int:
    worst = 0
    print(f"{'instructions':<14}{'threads':<9}result", flush=True)
    for threads in THREADS:
        for capability in available(torch.backends.cpu.get_cpu_capability()):
            code, (*failures, summary) = run(capability, threads, parts or list(PARTS))
            print(f"{capability:<14}{threads:<9}{summary}", flush=True)
            for failure in failures:
                print(f"  {failure}", flush=True)
            worst = max(worst, code)
    return worst


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
