"""A stand-in for the Python that make calls: it notes its arguments and makes a manifest."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from align.config.recipe import load_recipe
from align.runs.dependencies import write_dependencies
from align.runs.hashing import HashCache

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


def note(stage, recipe="r.yaml", *, overridden=False):
    path = Path(recipe)
    write_dependencies(
        stage, path, load_recipe(path), Path("runs/r"), HashCache(), overridden=overridden
    )


def older(path, seconds):
    stamp = time.time() + seconds
    os.utime(path, (stamp, stamp))
