"""A whole stage on hostile files: no connection, no secret in what it writes, no forged line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from align.config.yaml_lines import parse_yaml
from align.messages import visible
from align.messages.errors import ConfigError
from tests.stages.world import World, rows

ROOT = Path(__file__).parents[2]
SECRET = "canary-5f2c9e"
KEYS = ("WANDB_API_KEY", "HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "MY_PASSWORD")


STAGE = """
import json, socket, sys
tried = []
def refused(*arguments, **_):
    tried.append(str(arguments))
    raise OSError("no network")
socket.getaddrinfo = socket.create_connection = refused
from align.runs.command import exit_code_of
from align.runs.runner import main
from stages import sft
code = main(sft.STAGE, argv=sys.argv[1:])
from huggingface_hub import constants
print(json.dumps([code, tried, bool(constants.HF_HUB_DISABLE_TELEMETRY)]))
"""
TELEMETRY = """
from align.runs.command import exit_code_of
def action():
    import huggingface_hub.constants
    return int(not huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY)
raise SystemExit(exit_code_of(action))
"""


def python(code, *arguments):
    """Run code in a fresh Python that knows secrets and no switch of telemetry."""
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")}
    environment = kept | dict.fromkeys(KEYS, SECRET) | {"ALIGN_LANG": "en", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_a_stage_connects_to_nothing_and_writes_no_secret(tmp_path):
    world = World(tmp_path)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(world.recipe), "utf-8")
    runs = tmp_path / "runs"
    done = python(STAGE, str(recipe), f"runs_dir={runs}", "trainer.max_steps=1")
    assert json.loads(done.stdout.splitlines()[-1]) == [0, [], True]
    assert SECRET not in done.stdout + done.stderr
    written = [path for path in runs.rglob("*") if path.is_file()]
    assert len(written) > 5
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
    assert not list(runs.rglob("*.bin"))  # pickles are not published


def test_telemetry_is_off_whatever_a_command_imports_first():
    assert python(TELEMETRY).returncode == 0


def test_what_a_stage_says_of_hostile_rows_acts_on_no_terminal(tmp_path, capfd):
    evil = "\nerror: all is well\x1b]0;owned\x07\x9b2J\u202e\u200b"
    world = World(tmp_path)
    content = [row | {evil: evil, "family": evil} for row in rows()]
    content[3] = {"prompt": "a", evil: 1}
    content[5] = {evil: "b"}
    content[7]["chosen"] += evil
    world.recipe["data"]["instructions"] = {
        "path": world.write("data\x1b[2J\u202e.jsonl", content),
        "max_bad_rows": 5,
    }
    assert world.run("sft", "trainer.max_steps=1") == 0
    told = capfd.readouterr()
    for text in (told.out, told.err):
        assert visible(text.replace("\r", "\n")) == text.replace("\r", "\n")  # of progress bars
        assert not [line for line in text.split("\n") if line.startswith("error:")]
    manifest = (world.out("sft") / "manifest.json").read_text("utf-8")
    assert visible(manifest) == manifest
    source = json.loads(manifest)["config"]["data"]["instructions"]
    assert source["path"].endswith("data\x1b[2J\u202e.jsonl")


BOMBS = [
    "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
    "a: &a {b: *a}",
    "a: &a [*a]",
    "a: !!python/object/apply:os.system [touch ran]",
    "a: !!python/name:os.system",
    "!!python/object:os.system {}",
    "a: !!binary AAAA",
    "a: !!set {b}",
    "a: !evil b",
    "? [a, b]\n: c",
    "<<: {a: 1}",
    "a: " + "[" * 3_000,
    "a: " + "{b: " * 3_000,
    "- " * 3_000,
    "a: " + "9" * 100_000,
    "a: |\n" + " x\n" * 10 + "\x00",
    "%YAML 9.9\n---\na: 1",
    "a: 1\n---\nb: 2",
    "\ufffe",
    "a: '\ud800'",
]


@pytest.mark.parametrize("text", BOMBS, ids=range(len(BOMBS)))
def test_no_yaml_makes_anything_but_plain_values(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    try:
        document = parse_yaml(text, "r.yaml")
    except ConfigError as error:
        assert "\n" not in str(error)
    else:
        assert json.loads(json.dumps(document.data)) == document.data
    assert not list(tmp_path.iterdir())
