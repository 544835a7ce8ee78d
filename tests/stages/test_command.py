"""The command `align`: what it loads, where it starts, and a run from a person's forty rows."""

import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from stages.command import main
from tests import tiny

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "wandb", "numpy", "pandas"}
SHORT = [
    *("tracking.wandb=off", "model.threads=1"),
    *(f"{stage}.trainer.max_steps=2" for stage in ("sft", "reward", "dpo")),
    *("ppo.iterations=1", "ppo.rollout_batch_size=8", "ppo.max_new_tokens=6"),
    *("evaluate.max_new_tokens=6", "evaluate.samples_per_prompt=1", "evaluate.bootstrap=50"),
]


def python(folder, *arguments, **variables):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def loaded(folder, *commands):
    """Top-level modules of a fresh Python after these command lines, each of which ends well."""
    code = (
        "import sys; from stages.command import main\n"
        f"codes = [main(line) for line in {[*commands]!r}]\n"
        "print('LOADED', *codes, *{name.split('.')[0] for name in sys.modules})"
    )
    done = python(folder, "-c", code)
    words = done.stdout.rpartition("LOADED ")[2].split()
    assert words[: len(commands)] == ["0"] * len(commands), done.stdout + done.stderr
    return set(words[len(commands) :])


def test_the_entry_of_pyproject_is_this_command():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, name = project["scripts"]["align"].partition(":")
    assert getattr(importlib.import_module(module), name) is main


def test_help_reads_no_recipe_class_and_loads_no_heavy_library(tmp_path):
    assert not loaded(tmp_path, ["--help"]) & (HEAVY | {"pydantic", "yaml", "rich"})


@pytest.mark.parametrize("name", ["", "run", "new", "settings", "doctor", "show", "runs"])
def test_help_is_korean_where_it_is_asked_for(tmp_path, name):
    """All but what the command line's library says by itself."""
    command = ["-m", "stages.command", *name.split(), "--help"]
    told = python(tmp_path, *command, ALIGN_LANG="ko", COLUMNS="200").stdout
    theirs = ("--help", "--install-completion", "--show-completion", "installation.")
    own = [line for line in told.splitlines() if line[:2] == "  "]
    own = [line for line in own if not any(words in line for words in theirs)]
    assert own
    assert [line for line in own if not re.search("[가-힣]", line)] == []


def test_no_command_but_run_loads_a_heavy_library(tmp_path):
    commands = (["new", "mine"], ["settings"], ["doctor", "mine.yaml"], ["runs"])
    assert not loaded(tmp_path, *commands) & HEAVY


@pytest.mark.parametrize(
    "typed, offered",
    [("align se", "settings"), ("align settings ppo.gam", "ppo.gamma"), ("align show fi", "first")],
)
def test_the_shell_completes_commands_settings_and_runs(tmp_path, typed, offered):
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / ".lock").touch()
    done = python(
        tmp_path,
        *("-m", "stages.command"),
        _ALIGN_COMPLETE="complete_bash",
        COMP_WORDS=typed,
        COMP_CWORD=str(len(typed.split()) - 1),
    )
    assert done.stdout.split() == [offered], done.stderr


def test_a_wrong_recipe_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "none.yaml"]) == 2
    assert capsys.readouterr().err.startswith("error: none.yaml: no such recipe; ")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Forty pairs of one's own and a model, in a folder with a space and Hangul: new, then run."""
    folder = tmp_path_factory.mktemp("내 모델") / "a b"
    folder.mkdir()
    tiny.llama().save_pretrained(folder / "base")
    tiny.tokenizer().save_pretrained(folder / "base")
    rows = [
        {"prompt": f"{n}에 1을 더하면?", "chosen": f"{n + 1}입니다.", "rejected": "몰라"}
        for n in range(40)
    ]
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / "내 쌍.jsonl").write_text("\n".join(lines), encoding="utf-8")
    given = ["--base", "base", "--device", "cpu", "--language", "ko", "--full"]
    given += ["--preferences", "내 쌍.jsonl"]
    written = python(folder, "-m", "stages.command", "new", "mine", *given)
    assert written.returncode == 0, written.stderr
    done = python(folder, "-m", "stages.command", "run", "mine.yaml", *SHORT)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_forty_rows_of_ones_own_run_to_the_report(finished):
    _, out = finished
    assert re.findall(r"^(\w+) +runs: first run$", out, re.M) == (
        ["sft", "reward", "dpo", "ppo", "evaluate", "report"]
    )
    assert out.endswith("report: runs/mine/report/report.html\n")


def test_the_run_is_listed_and_shown_as_it_ended(finished, monkeypatch, capsys):
    folder, out = finished
    monkeypatch.chdir(folder)
    assert main(["runs"]) == 0
    assert re.search(r"^mine .* sft reward dpo ppo evaluate report", capsys.readouterr().out, re.M)
    assert main(["show", "mine"]) == 0
    shown, report, places = capsys.readouterr().out.partition(
        "report: runs/mine/report/report.html\n"
    )
    assert "PPO" in shown
    assert out.endswith(shown + report)
    told = [line.rpartition(": ")[2] for line in places.splitlines()]
    assert "runs/mine/ppo/model" in told and "runs/mine/report/recipe.yaml" in told
    assert not [place for place in told if not (folder / place).exists()]
