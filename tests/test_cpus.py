"""The numeric tests under other instruction sets: which there are, and that a choice is obeyed."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from tests import cpus


@pytest.mark.parametrize(
    ("best", "expected"),
    [
        ("AVX512", ("default", "avx2", "avx512")),
        ("AVX2", ("default", "avx2")),
        ("DEFAULT", ("default",)),
        ("SVE256", ("default",)),
    ],
)
def test_a_cpu_is_asked_for_no_instructions_that_it_lacks(best, expected):
    assert cpus.available(best) == expected


def test_a_test_process_computes_as_it_is_told():
    """Under the tests' own conftest, which sets one thread where nothing is said."""
    capability = cpus.available(torch.backends.cpu.get_cpu_capability())[0]
    program = (
        "import tests.conftest, torch; "
        "print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        env=cpus.environment(capability, 2),
        cwd=cpus.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == [capability.upper(), "2"]


def test_each_part_is_there_and_a_failure_is_in_the_table(tmp_path):
    assert all((cpus.ROOT / part).exists() for part in cpus.PARTS)
    failing = tmp_path / "test_no.py"
    failing.write_text("def test_no():\n    assert False\n", encoding="utf-8")
    code, lines = cpus.run("default", 1, [str(failing)])
    assert code == 1
    assert "test_no.py::test_no" in lines[0] and lines[-1].startswith("1 failed")
