"""Make's view of the chain: what it would run, seen through a stand-in for Python.

The stand-in writes down its arguments and makes the manifest that the stage would make.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from align.config.methods import STAGES
from tests.make_stand_in import ROOT, lay_out, make


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(lay_out(tmp_path / "한글 폴더"))


def test_one_target_brings_all_that_it_rests_on_and_a_second_call_nothing(project):
    ran = make("report")
    assert ran == ["sft", "reward", "dpo", "ppo", "evaluate", "report"]
    assert make("report") == []
    assert make("dpo") == []


def test_each_target_runs_its_own_stage(project):
    assert make("sft") == ["sft"]
    assert make("dpo") == ["dpo"]
    assert make("kto") == ["kto"]
    assert make("ppo") == ["reward", "ppo"]
    assert make("rloo") == ["rloo"]
    assert make("grpo") == ["grpo"]
    assert make("pipeline") == ["pipeline"]


@pytest.mark.parametrize(
    ("line", "settings", "trained"),
    [
        ("evaluate: {policies: [base, sft, rloo], bootstrap: 9}", "", ["rloo"]),
        ("evaluate:\n  policies: [sft, ppo, grpo] # but: [dpo]", "", ["ppo", "grpo"]),
        ("evaluate:\n  policies: [sft, ppo]", "evaluate.policies=[sft,dpo]", ["dpo"]),
        ("evaluate: {policies: [base, sft, best_of_n]}", "", []),
        ("evaluate:\n  policies:\n  - sft\n  - kto\n  # - dpo\n  - grpo", "", ["kto", "grpo"]),
        ('evaluate: {"policies":\n ["sft",\n "rloo"]}', "", ["rloo"]),
        ("", "evaluate.policies=[base,sft,dpo,ppo,kto]", ["dpo", "kto", "ppo"]),
        ("# policies: [sft, rloo]", "evaluate.bootstrap=9", ["dpo", "ppo"]),
    ],
)
def test_the_evaluation_waits_for_the_policies_that_it_names(project, line, settings, trained):
    with Path("r.yaml").open("a") as file:
        file.write(f"{line}\n")
    ran = make("evaluate", f"SET={settings}")
    assert ran == ["sft", "reward", *trained, "evaluate"]


@pytest.mark.parametrize(
    ("line", "settings", "own"),
    [
        ("ppo:\n  kl_coef: 0.1\n  reward_model: folder", "", False),
        ("ppo:\n  reward_model:\n    path: hub/name\n    revision: abc", "", False),
        ("ppo: {kl_coef: 0.1, reward_model: folder}", "", False),
        ("ppo: {reward_model: null}", "", True),
        ("ppo: {kl_coef: 0.1} # reward_model: folder", "ppo.epochs=2", True),
        ("", "ppo.reward_model=folder", False),
        ("", "ppo.reward_model.path=hub/name ppo.reward_model.revision=abc", False),
    ],
)
def test_the_reward_stage_is_made_unless_an_external_model_scores(project, line, settings, own):
    with Path("r.yaml").open("a") as file:
        file.write(f"{line}\n")
    ran = make("evaluate", f"SET={settings}")
    assert ran == ["sft", *(["reward"] if own else []), "dpo", "ppo", "evaluate"]
    assert ("reward" in make("rloo", "RUN=other", f"SET={settings}")) == own


def test_run_names_the_folder_and_the_recipe_names_the_run(project):
    make("sft", "RUN=other")
    assert Path("runs/other/sft/manifest.json").exists()
    shutil.copy("r.yaml", "named.yaml")
    with Path("named.yaml").open("a") as file:
        file.write('name: "mine" # a comment\n')
    make("sft", recipe="named.yaml")
    assert Path("runs/mine/sft/manifest.json").exists()


def test_an_artifact_of_another_run_is_waited_for_by_nothing(project):
    with Path("r.yaml").open("a") as file:
        file.write("parents: {sft: runs/other/sft}\n")
    assert make("ppo") == ["reward", "ppo"]


def test_settings_are_read_as_the_stage_that_is_asked_for_reads_them(project):
    assert make("sft", "SET=trainer.max_steps=9") == ["sft"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["RECIPE=nope.yaml"], "error: nope.yaml: no such recipe"),
        (["SET=evaluate.polices=[sft]"], "error: command line: evaluate.polices: unknown key"),
        (["RUN=../data"], "error: run=../data: a run name is at most 64 letters"),
    ],
)
@pytest.mark.parametrize("target", ["sft", "clean"])
def test_what_cannot_be_read_is_told_in_one_line_and_nothing_runs(project, target, arguments, told):
    done = subprocess.run(
        ["make", target, "RECIPE=r.yaml", *arguments], capture_output=True, text=True, check=False
    )
    errors = done.stderr.splitlines()
    assert done.returncode == 2
    assert errors[0].startswith(told)
    assert [line for line in errors[1:] if not line.startswith("make: ***")] == []
    assert not Path("calls").exists()
    assert Path("base").is_dir()


def test_clean_removes_the_run_of_the_recipe_and_no_other(project):
    make("sft")
    make("sft", "RUN=other")
    make("clean", "RUN=other")
    assert Path("runs/r/sft").is_dir() and not Path("runs/other").exists()
    make("clean", "RUN=")
    assert Path("sft.jsonl").is_file() and not Path("runs/r").exists()


@pytest.mark.parametrize(
    "arguments",
    [["RUN=."], ["RUN=a b"], ["RUN=victim"], ["RUN=../victim"], ["RUN=x", "SET=runs_dir=victim"]],
)
def test_clean_removes_nothing_but_a_run_directory(project, arguments):
    """Not another folder, nor one under `runs` that no stage ever worked in."""
    for folder in ("victim/x", "runs/victim"):
        Path(folder).mkdir(parents=True)
        Path(folder, "mine.txt").write_text("mine")
    make("clean", *arguments, code=2)
    assert Path("victim/x/mine.txt").is_file() and Path("runs/victim/mine.txt").is_file()


def test_the_environment_names_no_folder_to_remove(project, monkeypatch):
    Path("victim").mkdir()
    monkeypatch.setenv("run", "victim")
    make("clean")
    shutil.rmtree(".venv")
    make("clean")
    assert Path("victim").is_dir()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("run=x", "run=: unknown variable; did you mean RUN=?"),
        ("SETT=seed=1 a=b", "SETT=: unknown variable; did you mean SET=?"),
        ("RECIPIE=r.yaml", "RECIPIE=: unknown variable; did you mean RECIPE=?"),
        ("seed=1", 'a setting of the recipe is given as SET="seed=VALUE"'),
        ("sft.trainer.max_steps=3", 'is given as SET="sft.trainer.max_steps=VALUE"'),
        ("KILLS=3", "KILLS=: unknown variable; known: RECIPE RUN SET PYTHON TORCH_INDEX;"),
        ("a'b=1", "a'b=: unknown variable"),
    ],
)
@pytest.mark.parametrize("target", ["sft", "clean", "pipeline"])
def test_a_variable_that_make_does_not_know_is_refused_in_one_line(project, target, given, told):
    make("sft")
    done = subprocess.run(
        ["make", "RECIPE=r.yaml", target, given], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert told in done.stderr and done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert Path("runs/r/sft").is_dir()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("run=x", "오류: run=: 그런 변수가 없습니다. RUN=을(를) 쓰려고 했습니까?"),
        ("seed=1", '레시피의 설정은 SET="seed=값"으로 지정하십시오'),
    ],
)
def test_an_unknown_variable_is_refused_in_korean_too(project, given, told):
    command, korean = ["make", "sft", given], {**os.environ, "ALIGN_LANG": "ko"}
    done = subprocess.run(command, env=korean, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert told in done.stderr


def test_variables_of_one_target_are_known_to_it(project):
    command = ["make", "-n", "torture", "KILLS=3", "SEED=4"]
    called = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "'kills=3' 'seed=4'" in called.stdout


def test_a_recipe_may_have_a_quote_in_its_name(project):
    shutil.copy2("r.yaml", "it's.yaml")
    assert make("sft", "RUN=r", recipe="it's.yaml") == ["sft"]


def test_before_set_up_help_and_clean_ask_for_nothing(project):
    shutil.rmtree(".venv")
    done = subprocess.run(["make", "clean"], capture_output=True, text=True, check=True)
    assert done.stdout == "nothing was made here yet\n"
    help_ = subprocess.run(["make"], capture_output=True, text=True, check=True)
    assert "  kto " in help_.stdout
    assert not Path(".venv").exists() and not Path("runs").exists()


def test_help_names_every_target(project):
    done = subprocess.run(["make"], capture_output=True, text=True, check=True)
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    for target in {*targets, *STAGES} - {"FORCE"}:
        assert re.search(rf"^  {target} ", done.stdout, re.M), target


def test_an_old_python_is_refused_before_anything_is_made(project):
    shutil.rmtree(".venv")
    Path("old").write_text("#!/bin/sh\nexit 1\n")
    Path("old").chmod(0o755)
    command = ["make", "setup", "PYTHON=./old"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "error: PYTHON=./old is older than 3.11" in done.stderr
    assert not Path(".venv").exists()


@pytest.mark.skipif(
    any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg"))), reason="there is an NVIDIA device"
)
def test_set_up_says_what_it_would_fetch_and_how_to_avoid_it_before_pip_starts(project):
    """The stand-in has no torch, and writes down what pip would be asked for."""
    Path(".venv/.ready").unlink()
    Path(".venv/bin/python").write_text('#!/bin/sh\ntest "$1" = -c && exit 1\necho "ran $*"\n')
    index = "TORCH_INDEX=https://download.pytorch.org/whl/cpu"
    told = subprocess.run(["make", "setup"], capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in told.splitlines() if line.startswith("torch: ")]
    assert "5 GB" in line and line.endswith(f"give {index} for the build without")
    assert told.index("torch: ") < told.index("ran -m pip install")
    Path(".venv/.ready").unlink()
    given = subprocess.run(["make", "setup", index], capture_output=True, text=True, check=True)
    assert "torch: " not in given.stdout
