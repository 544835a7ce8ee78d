from pathlib import Path

import pytest

from align.config import PPOConfig
from align.config.recipe import load_recipe
from align.messages.errors import ConfigError

GOOD = "model: {path: base}\ndata: {preferences: pairs.jsonl, instructions: {}}\n"
RECIPES = sorted((Path(__file__).parents[3] / "stages" / "recipes").glob("*.yaml"))


def write(folder, text):
    path = folder / "r.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(folder, text, *overrides, section=None):
    with pytest.raises(ConfigError) as caught:
        load_recipe(write(folder, text), overrides, section=section)
    return str(caught.value).replace(f"{folder}/", "").splitlines()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_that_ships_is_valid(path):
    recipe = load_recipe(path, ["data.preferences.path=pairs.jsonl.gz"])
    assert recipe.name == path.stem
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_a_recipe_is_named_after_its_file_unless_it_says_otherwise(tmp_path):
    assert load_recipe(write(tmp_path, GOOD)).name == "r"
    assert load_recipe(write(tmp_path, GOOD + "name: other\n")).name == "other"


def test_a_key_on_the_command_line_is_looked_up_in_the_section_first(tmp_path):
    path = write(tmp_path, GOOD + "sft: {trainer: {learning_rate: 1e-3}}\n")
    recipe = load_recipe(
        path, ["trainer.learning_rate=1e-4", "seed=7", "reward.max_length=9"], section="sft"
    )
    assert recipe.sft.trainer["learning_rate"] == 1e-4
    assert recipe.seed == 7
    assert recipe.reward.max_length == 9


def test_a_recipe_whose_file_name_is_no_run_name_is_named_after_the_run(tmp_path):
    path = write(tmp_path, GOOD).rename(tmp_path / "내 것.yaml")
    assert load_recipe(path, fallback_name="mine").name == "mine"
    with pytest.raises(ConfigError, match="name: name=내 것: letters, digits"):
        load_recipe(path)


def test_a_misspelt_key_is_looked_for_in_the_section_too(tmp_path):
    with pytest.raises(ConfigError, match=r"ppo\.kl_ceof: unknown key; did you mean `kl_coef`"):
        load_recipe(write(tmp_path, GOOD), ["kl_ceof=1"], section="ppo")
    with pytest.raises(ConfigError, match=r"line: sede: unknown key; did you mean `seed`"):
        load_recipe(write(tmp_path, GOOD), ["sede=1"], section="ppo")


def test_a_source_without_a_path_reads_the_file_of_the_preferences(tmp_path):
    text = (
        "model: {path: base}\n"
        "data:\n"
        "  preferences: {path: a.jsonl, holdout: 0.2, max_rows: 5}\n"
        "  instructions: {}\n"
        "  preferences_heldout: {part: heldout}\n"
        "  prompts: other.jsonl\n"
    )
    data = load_recipe(write(tmp_path, text)).data
    assert data.instructions.path == "a.jsonl"
    assert data.instructions.holdout == 0.2
    assert data.instructions.max_rows is None
    assert (data.preferences_heldout.path, data.preferences_heldout.part) == ("a.jsonl", "heldout")
    assert (data.prompts.path, data.prompts.holdout) == ("other.jsonl", 0.0)
    assert data.evaluation is None


def test_a_bare_path_takes_settings_from_the_command_line(tmp_path):
    recipe = load_recipe(write(tmp_path, GOOD), ["data.preferences.max_bad_rows=3"])
    assert recipe.data.preferences.path == "pairs.jsonl"
    assert recipe.data.instructions.max_bad_rows == 3


@pytest.mark.parametrize("item", ["sft.trainr.learning_rate=1", "sft.trainr=1", "sfd.lora.r=1"])
def test_a_key_that_only_the_command_line_has_is_placed_there(tmp_path, item):
    text = GOOD + "sft: {max_length: 64}\n"
    (problem,) = problems(tmp_path, text, item)
    assert problem.startswith("command line: ")
    assert "unknown key; did you mean" in problem


def test_a_recipe_by_a_misspelt_name_is_named(tmp_path):
    (tmp_path / "shop.yaml").write_text(GOOD)
    with pytest.raises(
        ConfigError, match=r"shp\.yaml: no such recipe; did you mean `.*shop\.yaml`"
    ):
        load_recipe(tmp_path / "shp.yaml")
    with pytest.raises(ConfigError, match="no such recipe; write one with `align new NAME`"):
        load_recipe(tmp_path / "nope.yaml")


def test_all_problems_are_told_at_once_in_the_order_of_the_file(tmp_path):
    text = (
        "seed: -1\n"
        "model: {path: base, thread: 2}\n"
        "data: {prompts: {path: p, part: heldout}}\n"
        "sft:\n"
        "  trainer:\n"
        "    learnin_rate: 1e-4\n"
        "    seed: 3\n"
        "    logging_steps: often\n"
        "ppo:\n"
        "  lr_schedule: linaer\n"
        "  iterations: '3'\n"
        "  iterations: 4\n"
    )
    told = problems(tmp_path, text, "trainer.bf61=true", section="sft")
    assert told == [
        "command line: sft.trainer.bf61: SFTConfig has no such field; did you mean `bf16`?",
        "r.yaml:1: seed: seed=-1: should be greater than or equal to 0",
        "r.yaml:2: model.thread: unknown key; did you mean `threads`?",
        "r.yaml:3: data.prompts: part=heldout needs a holdout above 0; add `holdout: 0.2`",
        "r.yaml:6: sft.trainer.learnin_rate: SFTConfig has no such field; "
        "did you mean `learning_rate`?",
        "r.yaml:7: sft.trainer.seed: not set here; set `seed` at the top of the recipe",
        "r.yaml:8: sft.trainer.logging_steps: logging_steps='often' should be float",
        "r.yaml:10: ppo.lr_schedule: lr_schedule=linaer; did you mean `linear`?",
        "r.yaml:11: ppo.iterations: iterations='3': should be a valid integer",
        "r.yaml:12: ppo.iterations: given twice (first on line 11); remove one",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("modle: {path: b}", "modle: unknown key; did you mean `model`?"),
        ("name: a/../b", "name: name=a/../b: letters, digits"),
        ("seed: true", "seed: seed=True: should be a valid integer"),
        ("seed: 1.5", "seed: seed=1.5: should be a valid integer"),
        ("ppo: 3", "ppo: 3 should be a mapping of lora, layout,"),
        ("ppo: {lora: yes}", "ppo.lora: 'yes' should be a mapping of r, alpha"),
        ("ppo: {kl_coef: .inf}", "ppo.kl_coef: kl_coef=inf: should be a finite number"),
        ("ppo: {gamma: 1.5}", "ppo.gamma: gamma=1.5: should be less than or equal to 1"),
        ("ppo: {dual_clip: 1}", "ppo.dual_clip: dual_clip=1: should be greater than 1"),
        (
            "ppo: {minibatches: 7}",
            "ppo: minibatches=7 must divide rollout_batch_size=64; try 4",
        ),
        (
            "ppo: {missing_eos: subtract}",
            "ppo: missing_eos_penalty=-1.0 would be added, not taken off",
        ),
        (
            "ppo: {kl_target: 6, kl_coef: 0}",
            "ppo: kl_coef=0 stays 0 with kl_target=6.0, which multiplies it",
        ),
        ("evaluate: {policies: sft}", "evaluate.policies: policies='sft': should be a list, as"),
        ("sft: {trainer: [1]}", "sft.trainer: trainer=[1]: should be a mapping, as {name: value}"),
        (
            "ppo: {iterations: 9999999999}",
            "ppo.iterations: iterations=9999999999: should be less than 2147483648",
        ),
        ("sft: {lora: {targets: 3}}", "sft.lora.targets: targets=3: should be a valid string"),
        ("dpo: {trainer: {betta: 1}}", "dpo.trainer.betta: DPOConfig has no such field; did you"),
        ("reward: {trainer: {hub_token: x}}", "reward.trainer.hub_token: not set here; secrets"),
        ("evaluate: {policies: [base]}", "evaluate.policies: name each policy once, and `sft`"),
        ("evaluate: {policies: [sft, gpt]}", "evaluate.policies: policies=gpt is not one of"),
        ("parents: {stf: x}", "parents.stf: unknown key; did you mean `sft`?"),
        ("tracking: {wandb: on}", "tracking.wandb: wandb=on; known: auto, offline, off"),
    ],
)
def test_each_wrong_setting_is_one_line_with_its_place_and_a_remedy(tmp_path, text, told):
    lines = problems(tmp_path, GOOD + text + "\n")
    assert len(lines) == 1
    assert lines[0].startswith(f"r.yaml:3: {told}")


def test_a_missing_path_is_asked_for_once_however_many_sources_inherit_it(tmp_path):
    text = "model: {path: b}\ndata:\n  preferences: {holdout: 0.2}\n  prompts: {}\n"
    assert problems(tmp_path, text) == [
        "r.yaml:3: data.preferences.path: missing; add it, or give data.preferences.path=VALUE "
        "on the command line"
    ]


def test_what_is_wrong_on_the_command_line_is_told_with_the_rest(tmp_path):
    assert problems(tmp_path, GOOD, "ppo.clip_range=-1", "sed=2") == [
        "command line: ppo.clip_range: clip_range=-1: should be greater than 0",
        "command line: sed: unknown key; did you mean `seed`?",
    ]
    assert problems(tmp_path, GOOD, "seed") == [
        "command line: seed: expected key=value, as in seed=1"
    ]


def test_a_recipe_cannot_be_changed_after_it_was_read(tmp_path):
    recipe = load_recipe(write(tmp_path, GOOD))
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 3


def test_minibatch_size_is_derived():
    assert PPOConfig(rollout_batch_size=64, minibatches=4).minibatch_size == 16


def test_the_baselines_of_ppo_train_what_ppo_does(tmp_path):
    recipe = load_recipe(write(tmp_path, GOOD), ["ppo.lora.r=3", "dpo.lora.r=5"])
    assert recipe.adapters == {"dpo.lora": recipe.dpo.lora, "ppo.lora": recipe.ppo.lora}
    assert recipe.lora_of("grpo") == recipe.lora_of("ppo") == recipe.ppo.lora
    assert [recipe.lora_of(name) for name in ("sft", "evaluate", "report")] == [None] * 3
    assert recipe.lora_key("rloo") == "ppo.lora"
