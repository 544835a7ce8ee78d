"""tests/checklist.yaml, held to the tests it names and to those that name its items."""

import ast
import re
from pathlib import Path

import yaml

TESTS = Path(__file__).parent
ITEMS = {*(f"P{n}" for n in range(1, 34)), *(f"R{n}" for n in range(1, 5)), "S3"}

CHECKLIST = yaml.safe_load((TESTS / "checklist.yaml").read_text("utf-8"))


def named_in_tests() -> dict[str, set[str]]:
    """Node id of every test → the items that its docstring names."""
    found = {}
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                place = f"{path.relative_to(TESTS).as_posix()}::{node.name}"
                found[place] = set(
                    re.findall(r"\b[PRS]\d+(?=[a-e]?\b)", ast.get_docstring(node) or "")
                )
    return found


def pinned() -> dict[str, list[str]]:
    """Item → the tests listed for it."""
    return {item: entry["tests"] for item, entry in CHECKLIST.items()}


def test_every_item_is_there_and_has_tests():
    assert set(CHECKLIST) == ITEMS
    for item, entry in CHECKLIST.items():
        assert entry["what"] and entry["tests"], item


def test_every_listed_test_exists_and_names_its_item():
    found = named_in_tests()
    wrong = [
        f"{i}: {t}" for i, tests in pinned().items() for t in tests if i not in found.get(t, ())
    ]
    assert not wrong


def test_every_test_that_names_an_item_is_listed():
    listed = pinned()
    missing = [
        f"{item}: {place}"
        for place, items in named_in_tests().items()
        for item in items & ITEMS
        if place not in listed.get(item, ())
    ]
    assert not missing, "add to tests/checklist.yaml"
