"""A stand-in for the Python that make calls: it notes its arguments and makes a manifest."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from align.runs.command import read_command
from align.runs.dependencies import write_dependencies
from align.runs.hashing import HashCache
from tests.align.runs import chain

ROOT = Path(__file__).parent.parent


STAND_IN = f"""\
#!/bin/sh
case "$2" in
  stages.rules|stages.clean) PYTHONPATH='{ROOT}' exec '{sys.executable}' "$@" ;;
esac
echo "$*" >> calls
case "$2 $5" in
  stages.pipeline*) exit 0 ;;
  stages.rlhf*) stage="${{5#method=}}" ;;
  *) stage="${{2#stages.}}" ;;
esac
mkdir -p "runs/${{4#run=}}/$stage"
touch "runs/${{4#run=}}/$stage/manifest.json" "runs/${{4#run=}}/.lock"
"""


def lay_out(folder):
    """Make a project in a folder, everything a minute old, set up already; return the folder."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    for read in ("align/config/methods.py", "align/messages/language.py"):
        (folder / read).parent.mkdir(parents=True)
        shutil.copy(ROOT / read, folder / read)
    for name in ("pyproject.toml", "constraints.txt"):
        (folder / name).touch()
    python = folder / ".venv" / "bin" / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    chain.lay_out(folder)
    past = time.time() - 60
    for path in folder.rglob("*"):
        os.utime(path, (past, past))
    (folder / ".venv" / ".ready").touch()
    os.utime(folder / ".venv" / ".ready", (past + 1, past + 1))
    return folder


def make(*arguments, recipe="r.yaml", code=0):
    """Run make; return the stages it ran, in order."""
    Path("calls").unlink(missing_ok=True)
    done = subprocess.run(
        ["make", f"RECIPE={recipe}", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    lines = Path("calls").read_text().splitlines() if Path("calls").exists() else []
    called = [re.sub(r".*method=(\w+).*|-m stages\.(\w+).*", r"\1\2", line) for line in lines]
    assert all(recipe in line for line in lines)
    return called


def note(stage, *settings):
    """Write down what a stage was made from, as if it had just been made."""
    write_dependencies(stage, read_command(Path("r.yaml"), settings), HashCache())
