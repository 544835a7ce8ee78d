"""Threads give way while they wait; that one would be faster is told, and never decided."""

from __future__ import annotations

import os
import subprocess
import sys

import torch

from align.runs import threads


def test_openmp_is_told_to_give_way_before_torch_is_loaded_and_the_user_has_the_last_word():
    code = (
        "import os, sys\n"
        "from align.runs.threads import set_threads\n"
        "set_threads(2)\n"
        "assert 'torch' not in sys.modules\n"
        "print(os.environ['GOMP_SPINCOUNT'], os.environ['OMP_NUM_THREADS'])\n"
        "import torch\n"
        "print(torch.get_num_threads())\n"
    )
    clean = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_NUM_THREADS")}
    for given, spins in ((clean, threads.SPINS), (clean | {"GOMP_SPINCOUNT": "7"}, "7")):
        done = subprocess.run(
            [sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == [spins, "2", "2"]


def test_one_thread_is_advised_only_where_it_is_faster():
    assert threads.told(2, alone=1.0, together=0.6) is None
    assert threads.told(2, alone=1.0, together=1.1) is None
    line = threads.told(2, alone=1.0, together=1.5)
    assert line is not None
    assert "model.threads=2 computes 1.5 times slower" in line
    assert "model.threads=1 is faster" in line
    assert threads.advice(1) is None


def test_asking_leaves_the_number_of_threads_as_it_was():
    before = torch.get_num_threads()
    threads.advice(2)
    assert torch.get_num_threads() == before
