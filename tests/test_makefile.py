"""Make's view of the chain: what it would run, seen through a stand-in for Python.

The stand-in writes down its arguments and makes the manifest that the stage would make.
"""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from align.config.recipe import load_recipe
from align.runs.freshness import write_dependencies
from tests.align.runs import chain

ROOT = Path(__file__).parent.parent
STAND_IN = """\
#!/bin/sh
echo "$*" >> calls
case "$2 $5" in
  stages.pipeline*) exit 0 ;;
  stages.rlhf*) stage="${5#method=}" ;;
  *) stage="${2#stages.}" ;;
esac
mkdir -p "runs/${4#run=}/$stage"
touch "runs/${4#run=}/$stage/manifest.json"
"""
CHAIN = ["sft", "reward", "dpo", "ppo", "evaluate", "report"]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a space and Hangul in its name, everything a minute old, set up already."""
    folder = tmp_path / "한글 폴더"
    (folder / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("pyproject.toml", "constraints.txt"):
        (folder / name).touch()
    python = folder / ".venv" / "bin" / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    chain.lay_out(folder)
    past = time.time() - 60
    for path in folder.rglob("*"):
        os.utime(path, (past, past))
    (folder / ".venv" / ".ready").touch()
    os.utime(folder / ".venv" / ".ready", (past + 1, past + 1))
    monkeypatch.chdir(folder)
    return folder


def make(*arguments, recipe="r.yaml", code=0):
    """Run make; return the stages it ran, in order."""
    Path("calls").unlink(missing_ok=True)
    done = subprocess.run(
        ["make", f"RECIPE={recipe}", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    lines = Path("calls").read_text().splitlines() if Path("calls").exists() else []
    called = [re.sub(r".*method=(\w+).*|-m stages\.(\w+).*", r"\1\2", line) for line in lines]
    assert all(recipe in line for line in lines)
    return called


def note(stage, recipe="r.yaml", *, overridden=False):
    path = Path(recipe)
    write_dependencies(stage, path, load_recipe(path), Path("runs/r"), overridden=overridden)


def older(path, seconds):
    stamp = time.time() + seconds
    os.utime(path, (stamp, stamp))


def test_one_target_brings_all_that_it_rests_on_and_a_second_call_nothing(project):
    ran = make("report")
    assert ran == ["sft", "reward", "dpo", "ppo", "evaluate", "report"]
    assert make("report") == []
    assert make("dpo") == []


def test_each_target_runs_its_own_stage(project):
    assert make("sft") == ["sft"]
    assert make("dpo") == ["dpo"]
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
def test_the_reward_stage_is_made_unless_a_ready_made_model_scores(project, line, settings, own):
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


@pytest.mark.parametrize("changed", ["r.yaml", "sft.jsonl", "base/config.json", ".venv/.ready"])
def test_make_asks_the_stage_when_something_it_was_made_from_is_newer(project, changed):
    make("sft")
    note(chain.SFT)
    assert make("sft") == []
    older(changed, 60)
    assert make("sft") == ["sft"]


def test_make_asks_the_stage_when_something_it_was_made_from_is_gone(project):
    make("sft")
    note(chain.SFT)
    Path("sft.jsonl").unlink()
    assert make("sft") == ["sft"]


def test_make_asks_the_stage_when_settings_or_recipe_are_others_than_last_time(project):
    make("sft")
    note(chain.SFT)
    assert make("sft", "SET=seed=1") == ["sft"]
    shutil.copy2("r.yaml", "s.yaml")
    assert make("sft", "RUN=r", recipe="s.yaml") == ["sft"]
    note(chain.SFT, overridden=True)
    assert make("sft") == ["sft"]


def test_a_recipe_that_is_missing_is_left_to_the_stage_to_tell(project):
    assert make("sft", recipe="nope.yaml") == ["sft"]


def test_help_names_every_target(project):
    done = subprocess.run(["make"], capture_output=True, text=True, check=True)
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    for target in set(targets) - {"FORCE"}:
        assert re.search(rf"^  {target} ", done.stdout, re.M), target


def test_an_old_python_is_refused_before_anything_is_made(project):
    shutil.rmtree(".venv")
    Path("old").write_text("#!/bin/sh\nexit 1\n")
    Path("old").chmod(0o755)
    done = subprocess.run(
        ["make", "setup", "PYTHON=./old"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "error: PYTHON=./old is older than 3.11" in done.stderr
    assert not Path(".venv").exists()


def test_every_dependency_is_pinned_by_the_constraints():
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    assert pins["torch"] == "2.13.0"
    text = (ROOT / "pyproject.toml").read_text()
    wanted = re.findall(r'"([A-Za-z][\w-]*)(?:>=[\d.]+[^"]*)?",?', text.split("[tool.")[0])
    names = [n.lower() for n in wanted if f'"{n}>=' in text or n == "types-PyYAML"]
    assert len(names) > 15
    beside = ["vllm"]  # an extra that set-up does not install; it brings a torch of its own choice
    assert [name for name in names if name not in pins] == beside
