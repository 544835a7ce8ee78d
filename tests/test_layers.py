"""The staircase: imports go down only, heavy libraries stay where they belong."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOME = {"trl": "stages/", "wandb": "align/runs/mirror.py", "vllm": "align/sampling/vllm.py"}
"""Libraries that only one place may import."""

FILES = sorted(p for folder in ("align", "stages") for p in (ROOT / folder).rglob("*.py"))


LONGEST_FILE, LONGEST_FUNCTION = 300, 60
"""Lines; a longer one hides its plan."""
CODE = sorted(p for top in ("align", "stages", "data", "tests") for p in (ROOT / top).rglob("*.py"))


def imports(path):
    """Yield the dotted names a file may import, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the whole name"
            yield node.module
            if node.module in ("align", "stages"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def folder(name):
    """Return `align.data` for `align.data.rows`, `stages` for `stages.sft`."""
    return ".".join(name.split(".")[: 2 if name.startswith("align.") else 1])


def graph():
    """Return {folder: the folders its files import}."""
    found = {}
    for path in FILES:
        own = folder(".".join(path.relative_to(ROOT).with_suffix("").parts))
        used = {folder(n) for n in imports(path) if n.startswith(("align.", "stages"))}
        found.setdefault(own, set()).update(used - {own})
    del found["align.__init__"]
    return found


def floors():
    """Return the folders by floor: each one above all that it imports, as low as that allows."""
    floor, needs = {}, graph()
    for name in graphlib.TopologicalSorter(needs).static_order():
        floor[name] = 1 + max((floor[below] for below in needs[name]), default=0)
    return [{n for n in floor if floor[n] == level} for level in range(1, 1 + max(floor.values()))]


def test_imports_go_down_only_and_the_house_has_at_most_eight_floors():
    try:
        levels = floors()
    except graphlib.CycleError as error:
        pytest.fail(f"folders import each other: {error.args[1]}")
    assert levels[-1] == {"stages"}
    assert len(levels) <= 8, levels


def test_runs_and_data_do_not_know_each_other():
    assert "align.data" not in graph()["align.runs"]
    assert "align.runs" not in graph()["align.data"]


def test_the_library_holds_folders_and_nothing_else():
    assert {p.name for p in (ROOT / "align").glob("*.py")} == {"__init__.py"}


@pytest.mark.parametrize("path", CODE, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_and_no_function_is_too_long_to_be_read(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            lines = node.end_lineno - first + 1
            assert lines <= LONGEST_FUNCTION, f"{node.name}: {lines} lines"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_trl_is_imported_by_stages_only_and_wandb_by_its_mirror_only(path):
    place = path.relative_to(ROOT).as_posix()
    for name in imports(path):
        home = HOME.get(name.split(".")[0])
        assert home is None or place.startswith(home), f"{place} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_code_from_a_model_repository_is_never_run(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False


def loaded(code):
    """Return the top-level names of the modules that a fresh Python has after running `code`."""
    told = f"{code}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_losses_load_nothing_heavier_than_torch():
    assert loaded("import align.maths.losses") - loaded("import torch") == {"align"}


LIGHT = (
    "align.messages.errors, align.config.recipe, align.runs.manifest, align.runs.artifacts, "
    "align.runs.tracking, align.runs.runner, stages.pipeline"
)


def test_asking_whether_a_stage_is_up_to_date_loads_no_heavy_library():
    heavy = {"torch", "transformers", "trl", "peft", "datasets", "wandb", "numpy", "pandas"}
    assert not loaded(f"import {LIGHT}") & heavy
