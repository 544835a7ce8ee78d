"""The README's file tree is a map: it names every folder and command, and nothing that is gone."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def tree() -> str:
    return README.split("## Project layout")[1].split("```")[1]


def test_every_folder_of_the_library_and_every_command_stands_in_the_tree():
    folders = [f"{p.parent.name}/" for p in (ROOT / "align").glob("*/__init__.py")]
    commands = [p.stem for p in (ROOT / "stages").glob("*.py") if p.stem != "__init__"]
    assert not [name for name in (*folders, *commands) if name not in tree()]


def test_the_tree_names_no_folder_that_is_gone():
    named = set(re.findall(r"\b([a-z]+)/(?=\s|:|$)", tree(), re.MULTILINE))
    present = {p.name for p in ROOT.rglob("*") if p.is_dir() and ".venv" not in p.parts}
    assert named and named - present == set()
