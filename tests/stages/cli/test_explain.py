"""`align settings` tells what the recipe's classes say: nothing to keep in step by hand."""

import pytest

from align.config import Recipe
from align.config.recipe import section_of
from stages.cli.explain import find
from stages.command import main


def test_every_setting_has_a_meaning():
    assert [s.key for s in find() if not s.meaning] == []


def test_every_key_of_the_recipe_is_listed_or_said_to_be_as_in_another_section():
    def keys(model, prefix=""):
        for name in model.model_fields:
            yield f"{prefix}{name}"
            if section_of(model, name) is not None:
                yield from keys(section_of(model, name), f"{prefix}{name}.")

    listed = {s.key for s in find()}
    as_others = tuple(f"{s.key}." for s in find() if "Keys as in " in s.meaning)
    assert [k for k in keys(Recipe) if k not in listed and not k.startswith(as_others)] == []
    assert {"reward.", "data.prompts.", "ppo.lora."} <= {*as_others}


def test_a_section_asked_for_by_name_is_told_in_full():
    keys = [s.key for s in find("reward")]
    assert {"reward.trainer", "reward.max_length", "reward.lora.r"} <= {*keys}
    assert [s.key for s in find("ppo.clip_range")] == ["ppo.clip_range"]


def test_fields_of_trl_are_listed_without_those_that_the_pipeline_sets():
    kinds = {s.key: s.kind for s in find("dpo.trainer")}
    assert kinds["dpo.trainer.beta"] == "float"
    assert "dpo.trainer.output_dir" not in kinds


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_setting_is_told_with_range_default_and_unit_within_the_width(
    capsys, monkeypatch, columns
):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["settings", "ppo.kl_coef"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= columns
    assert " ".join(out.split()) == (
        "ppo.kl_coef: number ≥ 0, default 0.05 Reward per nat of KL(policy‖reference)."
    )


@pytest.mark.parametrize(
    "key, remedy",
    [
        ("pppo", "pppo: no such setting; did you mean `ppo`?"),
        ("ppo.clip_rnge", "ppo.clip_rnge: no such setting; did you mean `clip_range`?"),
        ("seed.x", "seed.x: no such setting; seed has no parts"),
    ],
)
def test_an_unknown_setting_is_one_line_with_the_nearest(capsys, key, remedy):
    assert main(["settings", key]) == 2
    assert capsys.readouterr().err == f"error: {remedy}\n"
