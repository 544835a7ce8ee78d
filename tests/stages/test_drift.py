"""Which stages run again after which change: those whose result it can change, and no others.

F9. Seen are a stage's own inputs; that a stage runs again after its parent is told by the parent's
content. Every row is compared for all nine stages, so that what is missing fails as what exceeds.
"""

import re

import pytest

from align.config import Recipe
from align.runs import inputs
from tests.stages.drift import NAMES, Change, Project, settled

ALL = " ".join(NAMES)
TRAINED = "reward dpo kto ppo rloo grpo evaluate report"  # from SFT, or rest on it
SCORED = "ppo rloo grpo"
EVERY = "sft reward dpo kto ppo rloo grpo evaluate"
OVER_TRL = "sft reward dpo kto rloo grpo"

SETTINGS = {
    "tracking.project=other": "",
    "tracking.wandb=offline": "",
    "name=other": "",
    "seed=1": ALL,
    "model.threads=1": ALL,
    "model.device=cpu": "",  # auto comes to it
    "model.dtype=float32": "",
    "model.dtype=bfloat16": ALL,
    "model.device=cuda": ALL,
    "model.chat_template=chatml": ALL,
    "sft.max_length=9": "sft",
    "sft.trainer.max_steps=9": "sft",
    "sft.lora.r=2": "sft",
    "reward.max_length=9": "reward",
    "reward.trainer.max_steps=9": "reward",
    "dpo.trainer.beta=0.3": "dpo",
    "kto.trainer.beta=0.3": "kto",
    "ppo.kl_coef=0.3": SCORED,
    "ppo.temperature=0.5": SCORED,
    "ppo.lora.r=2": SCORED,
    "ppo.gamma=0.9": "ppo",
    "ppo.checkpoint_every=3": "",
    "rloo.trainer.max_steps=9": "rloo",
    "grpo.trainer.max_steps=9": "grpo",
    "evaluate.showcase=3": "report",
    "evaluate.bootstrap=9": "evaluate",
    "evaluate.temperature=0.5": "evaluate",
    "evaluate.policies=[base,sft,dpo]": "evaluate report",
    "data.instructions.max_rows=1": "sft reward",
    "data.preferences.max_rows=1": "reward dpo kto evaluate",
    "data.preferences_heldout.max_rows=1": "reward evaluate",
    "data.prompts.max_rows=1": SCORED,
    "data.prompts.max_bad_rows=1": "",
    "data.evaluation.max_rows=1": "evaluate",
}
CHANGES = {
    "nothing": (lambda c: None, ""),
    # Data and the base model.
    "demonstrations": (lambda c: c.write("instructions.jsonl", "{}"), "sft reward"),
    "pairs": (lambda c: c.write("preferences.jsonl", "{}"), "reward dpo kto evaluate"),
    "held-out pairs": (lambda c: c.write("preferences_heldout.jsonl", "{}"), "reward evaluate"),
    "prompts": (lambda c: c.write("prompts.jsonl", "{}"), SCORED),
    "evaluation prompts": (lambda c: c.write("evaluation.jsonl", "{}"), "evaluate"),
    "bytes behind size and date": (lambda c: c.same_size_and_date("prompts.jsonl"), SCORED),
    "a date": (lambda c: c.touch("prompts.jsonl", 9), ""),
    "an older date": (lambda c: c.touch("prompts.jsonl", -9e6), ""),
    "prompts elsewhere": (lambda c: c.copy("prompts.jsonl", "p.jsonl", "data.prompts.path"), ""),
    "base elsewhere": (lambda c: c.copy("base", "other-base", "model.path"), ""),
    "template file": (lambda c: c.write("template.jinja", "{{ 1 }}"), ALL),
    **{
        f"base/{name}": (lambda c, name=name: c.write(f"base/{name}", "other"), expected)
        for name, expected in {
            **dict.fromkeys(["config.json", "tokenizer.json", "model.safetensors"], ALL),
            **dict.fromkeys(["generation_config.json", "adapter_config.json", "merges.txt"], ALL),
            **dict.fromkeys(["README.md", "LICENSE", "plot.png", "pytorch_model.bin"], ""),
            **dict.fromkeys([".gitattributes", "modeling.py"], ""),
        }.items()
    },
    # Libraries.
    **{name: (lambda c, name=name: c.version(name), ALL) for name in inputs.LIBRARIES},
    "pandas": (lambda c: c.version("pandas"), ""),
    "wandb": (lambda c: c.version("wandb"), ""),
    "a GPU": (lambda c: c.gpu(), ALL),
    # Code.
    **{
        file: (lambda c, file=file: c.logic(file), expected)
        for file, expected in {
            "stages/sft.py": "sft",
            "stages/reward.py": "reward",
            "stages/methods/dpo.py": "dpo",
            "stages/methods/kto.py": "kto",
            "stages/methods/ppo.py": "ppo",
            "stages/methods/grpo.py": "grpo",
            "stages/evaluate.py": "evaluate",
            "stages/report.py": "report",
            "stages/support/trl.py": OVER_TRL,
            "stages/support/compact_head.py": "sft dpo kto",
            "stages/support/ppo_roles.py": "ppo",
            "align/maths/losses.py": f"reward {SCORED}",
            "align/ppo/train.py": SCORED,
            "align/ppo/alarms.py": f"{SCORED} report",
            "align/data/chat.py": EVERY,
            "align/data/load.py": ALL,  # the report says what checks ask for
            "align/models/load.py": EVERY,
            "align/sampling/sampler.py": EVERY,
            "align/evaluation/statistics.py": "evaluate report",
            "align/report/verdict.py": "report",
            "align/config/evaluate.py": "evaluate report",
            "align/config/ppo.py": SCORED,
            "align/config/trl_stages.py": "sft reward dpo kto ppo rloo grpo",
            **dict.fromkeys(["align/config/recipe.py", "align/config/describe.py"], ""),
            **dict.fromkeys(["align/config/__init__.py", "align/messages/errors.py"], ""),
            **dict.fromkeys(["align/runs/tracking.py", "align/runs/signals.py"], ""),
            **dict.fromkeys(["align/messages/say.py", "stages/pipeline.py"], ""),
            **dict.fromkeys(["stages/command.py", "stages/clean.py"], ""),
        }.items()
    },
    "a page's template": (
        lambda c: c.write("code/align/report/templates/report.html.j2", "other"),
        "report",
    ),
    "a comment": (lambda c: c.code("align/ppo/train.py", "\n\n\n", "\n\n\n# more\n"), ""),
    "a docstring": (lambda c: c.code("align/ppo/train.py", '"""', '"""More. '), ""),
    "what a setting comes to": (lambda c: c.code("align/config/ppo.py", " // ", " % "), SCORED),
    "a range": (lambda c: c.code("align/config/ppo.py", "NonNegative = ", "Positive = "), ""),
    "a check": (lambda c: c.code("align/config/ppo.py", "raise ValueError", "return str"), ""),
    # Parents.
    "sft's bits": (lambda c: c.content("sft"), TRAINED),
    "sft's inputs": (lambda c: c.parent("sft", fingerprint="other"), TRAINED),
    "sft's curve": (lambda c: c.content("sft", "metrics.jsonl"), ""),
    "when sft was made": (lambda c: c.parent("sft", wall_seconds=9.0, git_revision="x"), ""),
    "reward's bits": (lambda c: c.content("reward"), f"{SCORED} evaluate report"),
    "dpo's bits": (lambda c: c.content("dpo"), "evaluate report"),
    "ppo's adapter": (lambda c: c.content("ppo", "adapter/w"), "evaluate report"),
    "the evaluation": (lambda c: c.content("evaluate", "summary.json"), "report"),
    "the reader's language": (lambda c: c.patch.setenv("ALIGN_LANG", "ko"), "report"),
}


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A project and the fingerprints of its stages."""
    project = Project(tmp_path_factory.mktemp("drift"))
    with pytest.MonkeyPatch.context() as patch:
        settled(patch, project)
        return project, project.fingerprints()


@pytest.fixture
def changed(known, monkeypatch):
    """Make a change; return the stages that would run again."""
    project, before = known
    settled(monkeypatch, project)
    inputs.library_versions.cache_clear()
    change = Change(project, monkeypatch)

    def make(what):
        what(change)
        after = project.fingerprints()
        return " ".join(name for name in NAMES if after[name] != before[name])

    yield make
    change.undo()
    monkeypatch.undo()
    inputs.library_versions.cache_clear()


@pytest.mark.parametrize("item", SETTINGS)
def test_a_setting_reruns_the_stages_that_read_it_and_no_others(changed, item):
    assert changed(lambda change: change.set(item)) == SETTINGS[item]


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_reruns_the_stages_whose_result_it_can_change_and_no_others(changed, name):
    change, expected = CHANGES[name]
    assert changed(change) == expected


def test_every_section_of_the_recipe_and_every_stage_have_a_row():
    """`parents` names other runs' artifacts, whose content is in the second table."""
    sections = {re.split("[.=]", item)[0] for item in SETTINGS}
    assert sections == set(Recipe.model_fields) - {"parents"}
    rerun = {name for stages in SETTINGS.values() for name in stages.split()}
    assert rerun == set(NAMES)
