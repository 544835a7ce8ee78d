"""Every stage is ended for good and run again; `make torture` does so fifty times for each."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_whatever_ends_a_stage_it_goes_on_to_the_same_bits():
    command = [sys.executable, "-m", "tests.torture", "kills=1", "seed=3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert (found := re.match(r"(\d+) of \1 bit-identical; killed (\d+) times", last)), last
    assert int(found[2]) >= 16
