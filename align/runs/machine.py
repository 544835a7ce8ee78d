"""Where a result came from: recorded with it, and no part of its fingerprint."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from align.config import Recipe


def device(recipe: Recipe) -> str:
    """The device that a stage ran on; without torch it ran on none but the CPU."""
    torch: Any = sys.modules.get("torch")
    if torch is None or recipe.model.device == "cpu" or not torch.cuda.is_available():
        return "cpu"
    return f"cuda ({torch.cuda.get_device_name()})"


def cpu_capability() -> str | None:
    """The instruction set that torch computes with, which decides the rounding of sums."""
    torch: Any = sys.modules.get("torch")
    return None if torch is None else str(torch.backends.cpu.get_cpu_capability())


def processor() -> str:
    """The name of the processor: those of two makers may round sums otherwise."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def computer(recipe: Recipe) -> str:
    """What decides the last bits of a sum: the GPU, or the processor and its instructions."""
    where = device(recipe)
    if where != "cpu":
        return where
    return ", ".join(filter(None, ("cpu", cpu_capability(), processor())))


def git_revision(root: Path) -> str | None:
    """The commit of this project, marked where files differ from it."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
