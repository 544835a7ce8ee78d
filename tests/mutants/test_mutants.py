"""The short form of `make mutants`: the catalogue fits the code, and the engine tells the fates."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.engine import ROOT

FORMULAS = sorted(p for p in (ROOT / "align" / "maths").glob("*.py") if p.stem != "__init__")


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_true_text_is_there_once_and_the_changed_file_is_python(mutant):
    changed = ast.dump(ast.parse(mutant.source()))
    assert changed != ast.dump(ast.parse((ROOT / mutant.file).read_text("utf-8")))
    assert all((ROOT / test.split("::")[0]).is_file() for test in mutant.tests)


def test_no_two_mutants_are_the_same():
    assert len({(m.file, m.source()) for m in MUTANTS}) == len(MUTANTS)
    assert len({str(m) for m in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("path", FORMULAS, ids=lambda path: path.stem)
def test_every_function_of_the_maths_has_a_mutant(path):
    text = path.read_text("utf-8")
    changed = [text[: text.index(m.old)].count("\n") + 1 for m in MUTANTS if ROOT / m.file == path]
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef):
            first = min(d.lineno for d in (node, *node.decorator_list))
            assert any(first <= line <= node.end_lineno for line in changed), node.name


PLANTED = """
from tests.mutants import catalogue, engine
engine.warm_up()
tests = ("tests/align/maths/test_losses.py::test_clip_truth_table",)
changes = [
    ("minimum for maximum", "torch.maximum(plain, clipped)", "torch.minimum(plain, clipped)"),
    ("a loss that the table does not use", "loss = -masked_mean(", "loss = masked_mean("),
    ("no such module", "from align.maths.masks import", "from align.mask import"),
]
planted = [engine.Mutant("align/maths/losses.py", *change, tests) for change in changes]
real = [m for m in catalogue.MUTANTS if m.file == "align/maths/logprobs.py"]
raise SystemExit(engine.main([*planted, *real[:4]]))
"""


def test_the_dead_the_survivor_and_the_one_that_cannot_run_are_told_apart():
    done = subprocess.run(
        [sys.executable, "-c", PLANTED], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    fates = [line[:11].rstrip() for line in done.stdout.splitlines()[:7]]
    assert fates == ["killed", "SURVIVED", "DID NOT RUN", *["killed"] * 4]
    assert "+ loss = masked_mean(" in done.stdout
    assert "\n5 / 7 mutants killed" in done.stdout


TIMED = """
import sys
from tests.mutants import engine
engine.LIMIT = 3
engine.warm_up()
print(*(engine.verdict([test]) for test in sys.argv[1:]))
"""


def test_computing_counts_and_not_the_time_that_passes(tmp_path):
    """Neighbours on a busy machine are no fault of a test's; a test that never ends is."""
    tests = [tmp_path / "test_waits.py", tmp_path / "test_spins.py"]
    for test, body in zip(tests, ("import time; time.sleep(4)", "while True: pass"), strict=True):
        test.write_text(f"def test_it():\n    {body}\n", encoding="utf-8")
    command = [sys.executable, "-c", TIMED, *map(str, tests)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "0 None\n", done.stdout + done.stderr
