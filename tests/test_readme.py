"""The README's file tree is a map: it names every folder and command, and nothing that is gone."""

import re
from pathlib import Path

from align.config.methods import STAGES
from align.ppo.alarms import RULES

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


def test_linked_files_exist():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert not [link for link in links if "://" not in link and not (ROOT / link).exists()]


def test_documented_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert {"setup", "pipeline", "sft", "test"} <= targets
    plain = targets - {*STAGES}
    assert not [t for t in plain if not re.search(rf"^{t}:", makefile, re.MULTILINE)]


def test_every_alarm_is_explained():
    table = README.split("### Alarms of PPO")[1]
    assert not [rule.name for rule in RULES if f"`{rule.name}`" not in table]
