"""The table of methods is complete, and what lists the methods is derived from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from align.config import EvaluateConfig, Recipe
from align.config.methods import ALIGNED, BY_NAME, METHODS, POLICIES, STAGES, TRL
from align.config.recipe import load_recipe
from align.messages.errors import ConfigError
from align.report.signs import COLOURS, SHAPES

TABLE = Path(__file__).parents[3] / "align" / "config" / "methods.py"


def test_names_and_looks_are_given_once_and_every_look_exists():
    assert len(BY_NAME) == len(METHODS)
    looks = [method.look for method in METHODS]
    assert len(set(looks)) == len(looks)
    assert len(COLOURS) == len(SHAPES) > max(looks)


def test_the_chain_is_in_the_order_of_the_table_and_ends_with_evaluation_and_report():
    assert list(STAGES) == ["sft", "reward", *ALIGNED, "evaluate", "report"]
    assert ALIGNED == ("dpo", "kto", "ppo", "rloo", "grpo")


@pytest.mark.parametrize("name", [name for name in STAGES if name != "report"])
def test_every_stage_has_its_section_in_the_recipe(name):
    assert name in Recipe.model_fields


def test_every_policy_can_be_evaluated_and_nothing_else():
    assert EvaluateConfig(policies=POLICIES).policies == POLICIES
    with pytest.raises(ValueError, match="policies=reward is not one of base, sft, dpo, kto"):
        EvaluateConfig(policies=("sft", "reward"))


@pytest.mark.parametrize("name", TRL)
def test_settings_of_trl_are_checked_in_every_section_that_trl_trains(tmp_path, name):
    path = tmp_path / "r.yaml"
    path.write_text(f"model: {{path: base}}\ndata: {{}}\n{name}:\n  trainer: {{lerning_rate: 1}}\n")
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    told = f"{name}.trainer.lerning_rate: {TRL[name]}Config has no such field; did you mean"
    assert str(caught.value).startswith(f"{path}:4: {told} `learning_rate`?")


def test_an_artifact_can_be_taken_for_every_stage_that_another_builds_on(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("model: {path: base}\ndata: {}\n")
    assert load_recipe(path, ["parents.kto=runs/x/kto"]).parents == {"kto": "runs/x/kto"}
    for name, hint in (("rewad", "did you mean `reward`"), ("7b", "known: sft, reward, dpo")):
        with pytest.raises(ConfigError, match=rf"parents\.{name}: unknown key; {hint}"):
            load_recipe(path, [f"parents.{name}=runs/x"])


def test_the_table_prints_the_targets_of_make_without_any_library():
    code = "import sys, runpy; runpy.run_path(sys.argv[1], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, TABLE], capture_output=True, text=True, check=True
    )
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(STAGES)
    assert all(len(line.split()) > 3 or "report" in line for line in done.stdout.splitlines())
