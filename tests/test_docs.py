"""The pages agree with the code: settings, alarms, links, the site's list, and commands run."""

import gzip
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

import pytest
import yaml

from align.config import Recipe
from align.config.describe import page, sections, settings
from align.config.methods import STAGES
from align.ppo.alarms import RULES
from tests import documented
from tests import tiny as models
from tests.documented import DOCS, PAGES, REASONS, ROOT, blocks, commands
from tests.shared_python import CLIENT

ROWS = 48
"""Rows of each file of the embedded world that the documented commands read here."""
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]


def test_the_settings_page_is_what_the_classes_say():
    told = "run: python -m align.config.describe > docs/settings.md"
    assert (DOCS / "settings.md").read_text(encoding="utf-8") == page(), told


def test_every_setting_has_a_meaning():
    missing = [
        f"{title}: {setting.key}"
        for title, section in sections().items()
        for setting in settings(section)
        if not setting.meaning
    ]
    assert missing == []


def test_a_setting_is_told_with_its_range_and_default():
    ppo = {setting.key: setting for setting in settings(sections()["ppo"])}
    assert ppo["gae_lambda"][1:3] == ("number ≥ 0, ≤ 1", "`0.95`")
    assert ppo["dual_clip"][1:3] == ("number > 1 or null", "`null`")
    assert ppo["critic"][1:3] == ("`auto` or `reward` or `zero` or `head`", "`auto`")
    assert ppo["kl_coef"].meaning == "Reward per nat of KL(policy‖reference)."


def test_every_section_of_the_recipe_is_on_the_settings_page():
    titles = {name for title in sections() for name in title.split(", ")}
    values = {"name", "seed", "parents"}
    assert set(Recipe.model_fields) - titles == values


def test_every_alarm_is_explained():
    table = (DOCS / "ppo.md").read_text(encoding="utf-8").split("## Alarms")[1]
    assert not [rule.name for rule in RULES if f"`{rule.name}`" not in table]


def test_every_page_is_in_the_sites_list_and_no_other():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    listed = [
        page for part in nav for entries in part.values() for e in entries for page in e.values()
    ]
    present = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    assert sorted(listed) == sorted(present)


@pytest.mark.parametrize("name", NAMES)
def test_links_and_anchors_resolve(name):
    source = ROOT / name
    broken = []
    for link in documented.links(source):
        path, _, anchor = link.partition("#")
        target = (source.parent / path).resolve() if path else source
        outside = source.is_relative_to(DOCS) and not target.is_relative_to(DOCS)
        if not target.exists() or outside:
            broken.append(link)  # the site holds docs/ only
        elif anchor and anchor not in documented.anchors(target):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("name", NAMES)
def test_targets_and_modules_that_are_named_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {t for t in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.M) if t not in STAGES}
    assert not [t for t in targets if not re.search(rf"^{t}:", makefile, re.M)]
    modules = set(re.findall(r"python -m ((?:align|stages|tests|data)[\w.]*)", text))
    assert not [module for module in modules if importlib.util.find_spec(module) is None]


@pytest.mark.parametrize("name", NAMES)
def test_files_of_the_project_that_are_named_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:align|stages|tests|data|docs)/[\w./-]+)(?:::\w+)?`", text))
    named = {path for path in named if "NAME" not in path}
    assert not [path for path in named if not (ROOT / path).exists()]
    assert not set(re.findall(r"`(test_\w+\.py)`", text)), "give the folder too"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_to_stand_in_a_file_stands_there(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    said = re.findall(r"`(?:\w+\.)?(\w+)(?:\(.*?\))?` (?:of|in) `([\w/]+\.(?:py|yaml))`", text)
    found = [(word, path) for word, path in said if (ROOT / path).exists()]
    assert not [
        (word, path)
        for word, path in found
        if not re.search(rf"\b{word}\b", (ROOT / path).read_text(encoding="utf-8"))
    ]
    assert name != "CONTRIBUTING.md" or len(found) > 5


def test_what_is_not_run_says_why():
    reasons = [b.note for page in PAGES for b in blocks(page) if b.mark == "not run"]
    assert reasons
    assert not [note for note in reasons if not any(reason in note for reason in REASONS)]


@pytest.mark.parametrize("name", NAMES)
def test_a_mark_stands_directly_above_its_block(name):
    marks = re.findall(r"^<!-- (?:not run|file): ", (ROOT / name).read_text(encoding="utf-8"), re.M)
    assert len(marks) == len([block for block in blocks(ROOT / name) if block.mark])


@pytest.mark.parametrize("name", NAMES)
def test_commands_are_read_by_the_shell(name):
    for block in blocks(ROOT / name):
        if block.language == "sh":
            done = subprocess.run(
                ["bash", "-n", "-c", block.text], capture_output=True, check=False
            )
            assert done.returncode == 0, done.stderr


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


# ------------------------------------------------------------------------------- commands that run


def cut(source, target):
    """The first rows of a file."""
    with source.open(encoding="utf-8") as file:
        target.write_text("".join(islice(file, ROWS)), encoding="utf-8")


def transcripts(path):
    """Pairs as in hh-rlhf."""
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for n in range(ROWS):
            turn = f"\n\nHuman: What is {n} plus {n}?\n\nAssistant: "
            row = {
                "chosen": f"{turn}It is {2 * n}.",
                "rejected": f"{turn}No idea, sorry about that.",
            }
            file.write(json.dumps(row) + "\n")


@pytest.fixture(scope="module")
def python():
    """The text of a stand-in for .venv/bin/python, behind which libraries are loaded once."""
    folder = tempfile.mkdtemp()  # a socket's address may have 107 bytes
    address = f"{folder}/python"
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.shared_python", address],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,  # closed when this process ends, whatever ends it
        stdout=subprocess.PIPE,
        text=True,
    )
    assert "ready\n" in iter(server.stdout.readline, "")  # read up to it
    yield CLIENT.format(python=sys.executable, address=address)
    server.communicate()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def project(tmp_path_factory, python):
    """A set-up clone in a path with a space and Hangul: few rows, a small model, all recipes."""
    folder = tmp_path_factory.mktemp("내 모델")
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("align", "stages"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("pyproject.toml", "constraints.txt"):
        (folder / name).touch()
    tiny = folder / "data" / "tiny"
    tiny.mkdir(parents=True)
    base = models.llama(vocab_size=1408)
    base.config.max_position_embeddings = 1024
    base.save_pretrained(tiny / "base")
    for source in (ROOT / "data" / "tiny").glob("*.jsonl"):
        cut(source, tiny / source.name)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(ROOT / "data" / "tiny" / "base" / name, tiny / "base")
    transcripts(folder / "harmless-base-test.jsonl.gz")
    (folder / ".venv" / "bin").mkdir(parents=True)
    stand_in = folder / ".venv" / "bin" / "python"
    stand_in.write_text(python)
    stand_in.chmod(0o755)
    console_script = stand_in.with_name("align")  # as set-up makes it from pyproject.toml
    console_script.write_text('#!/bin/sh\nexec "${0%/*}/python" -m stages.command "$@"\n')
    console_script.chmod(0o755)
    (folder / ".venv" / ".ready").touch()
    for shown in PAGES:
        lay_out_files(folder, shown)
    return folder


def lay_out_files(folder, page):
    """The files that a page shows."""
    for block in blocks(page):
        if block.mark == "file":
            target = folder / block.note
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text, encoding="utf-8")


def run(folder, block):
    """Run a block as a person does."""
    if block.language == "python":
        (folder / "example.py").write_text(block.text, encoding="utf-8")
    command = ".venv/bin/python example.py" if block.language == "python" else block.text
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env={
            **os.environ,
            "HOME": str(folder),
            "PATH": f"{folder}/.venv/bin:{os.environ['PATH']}",  # as an activated environment has
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def runnable(page):
    return [b for b in blocks(page) if b.language in ("sh", "python") and b.mark != "not run"]


@pytest.mark.parametrize("name", [name for name in NAMES if runnable(ROOT / name)])
def test_commands_of_a_page_run_as_written(name, project):
    lay_out_files(project, ROOT / name)
    for block in runnable(ROOT / name):
        assert commands(block) or block.language == "python"
        run(project, block)


def test_a_command_that_fails_is_noticed(project):
    block = documented.Block(Path("x.md"), "sh", "make pipeline RECIPE=none.yaml\n", "", "")
    with pytest.raises(AssertionError, match=r"none\.yaml"):
        run(project, block)
