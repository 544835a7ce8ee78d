"""The README's file tree is a map: it names every module, and nothing that is gone."""

import re
from pathlib import Path

from align.alarms import RULES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def tree() -> str:
    return README.split("## The house")[1].split("```")[1]


def test_every_module_stands_in_the_tree():
    modules = [p.name for room in ("align", "stages") for p in (ROOT / room).glob("*.py")]
    folders = [f"{p.parent.name}/" for p in (ROOT / "align").glob("*/__init__.py")]
    wanted = {name for name in modules if name != "__init__.py"} | set(folders)
    assert not {name for name in wanted if name not in tree()}


def test_the_tree_names_no_file_that_is_gone():
    named = set(re.findall(r"[a-z_]+\.py\b", tree()))
    present = {
        p.name for room in ("align", "stages", "data", "tests") for p in (ROOT / room).rglob("*.py")
    }
    assert named - present == set()


def test_linked_files_exist():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert not [link for link in links if "://" not in link and not (ROOT / link).exists()]


def test_documented_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert {"setup", "pipeline", "sft", "test"} <= targets
    assert not [t for t in targets if not re.search(rf"^{t}:", makefile, re.MULTILINE)]


def test_every_alarm_is_explained():
    table = README.split("### Alarms of PPO")[1]
    assert not [rule.name for rule in RULES if f"`{rule.name}`" not in table]
