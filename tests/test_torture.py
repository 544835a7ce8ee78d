"""A PPO stage is killed for good and run again; `make torture` does so twenty times."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_killed_at_random_moments_it_ends_in_the_same_bits():
    command = [sys.executable, "-m", "tests.torture", "kills=3", "seed=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("3 of 3 bit-identical")
