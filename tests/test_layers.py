"""The staircase: imports go down only, heavy libraries stay where they belong."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEVELS = (
    "masks logprobs kl advantages losses",
    "errors stopping types hashing yaml_lines trainer_fields config recipe manifest",
    "pretrained chat data models artifacts checkpoints tracking judges alarms text_scorer",
    "readout decoding rollout roles vllm_sampler samplers optimiser "
    "ppo_metrics health ppo_state ppo probe evaluation report",
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names.split()}
HOME = {"trl": "stages/", "wandb": "align/tracking.py", "vllm": "align/vllm_sampler.py"}
"""Libraries that only one place may import."""

FILES = sorted(p for folder in ("align", "stages") for p in (ROOT / folder).rglob("*.py"))


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


def room(path):
    """Return `losses` for align/losses.py, `data` for align/data/load.py."""
    return path.relative_to(ROOT / "align").parts[0].removesuffix(".py")


LIBRARY = [p for p in FILES if p.is_relative_to(ROOT / "align") and room(p) != "__init__"]


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_of_the_library_imports_only_rooms_on_its_own_step_or_below(path):
    assert room(path) in LEVEL, f"{room(path)}: give the new room its step in LEVELS"
    for name in imports(path):
        top, _, rest = name.partition(".")
        assert top != "stages", f"{path} imports {name}"
        if top == "align" and rest:
            assert LEVEL[rest.split(".")[0]] <= LEVEL[room(path)], f"{path} imports {name}"


def test_no_two_rooms_import_each_other():
    graph = {}
    for path in LIBRARY:
        needs = {n.split(".")[1] for n in imports(path) if n.startswith("align.")} - {room(path)}
        graph.setdefault(room(path), set()).update(needs)
    assert list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_trl_is_imported_by_stages_only_and_wandb_by_tracking_only(path):
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
    assert loaded("import align.losses") - loaded("import torch") == {"align"}


LIGHT = (
    "align.errors, align.config, align.recipe, align.manifest, align.artifacts, align.tracking, "
    "stages.runner, stages.pipeline"
)


def test_asking_whether_a_stage_is_up_to_date_loads_no_heavy_library():
    heavy = {"torch", "transformers", "trl", "peft", "datasets", "wandb", "numpy", "pandas"}
    assert not loaded(f"import {LIGHT}") & heavy
