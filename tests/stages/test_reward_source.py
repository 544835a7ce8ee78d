"""PPO, its baselines and the evaluation on an external reward model, without the reward stage."""

from __future__ import annotations

import json
import shutil
from statistics import fmean, pstdev

import pytest
import torch

from align.config.recipe import load_recipe
from align.data import chat
from align.models import load as models
from align.runs.hashing import HashCache
from align.runs.inputs import stage_inputs
from align.scoring.text_scorer import TextScorer
from stages import pipeline, rlhf
from stages.methods import ppo
from tests import tiny, tiny_scorers
from tests.stages.world import LORA, World, rows

KINDS = ["decoder", "encoder"]


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A world with an SFT policy, prompts to evaluate on, and no preferences at all."""
    world = World(tmp_path_factory.mktemp("world"))
    world.recipe["data"] = {
        "instructions": world.recipe["data"]["instructions"],
        "prompts": world.recipe["data"]["prompts"],
        "evaluation": world.write("evaluation.jsonl", rows(4)),
    }
    world.recipe["evaluate"] = {"policies": ["sft", "ppo"], "max_new_tokens": 6, "bootstrap": 100}
    world.recipe["ppo"] |= {"missing_eos": "subtract", "missing_eos_penalty": 0.0}
    for kind in KINDS:
        tiny_scorers.save(world.folder / kind, kind)
    assert world.run("sft") == 0
    return world


@pytest.fixture
def world(grown, tmp_path):
    """Another run in the same world."""
    shutil.copytree(grown.folder, tmp_path, dirs_exist_ok=True)
    world = World(tmp_path)
    world.recipe = json.loads(json.dumps(grown.recipe).replace(str(grown.folder), str(tmp_path)))
    return world


def recipe_of(world):
    path = world.folder / "recipe.yaml"
    path.write_text(json.dumps(world.recipe), "utf-8")
    return load_recipe(path)


def demonstrations():
    return [
        [
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": row["chosen"]},
        ]
        for row in rows()
    ]


@pytest.mark.parametrize(
    ("kind", "lora"), [("decoder", None), ("encoder", LORA), ("decoder", LORA)]
)
def test_ppo_and_evaluation_run_without_a_reward_stage(world, kind, lora):
    """P31: from the SFT policy to the table; the scale is that of the demonstrations."""
    world.recipe["ppo"] |= {"reward_model": str(world.folder / kind), "lora": lora}
    assert world.run("ppo") == world.run("evaluate") == 0
    manifest = world.manifest("ppo")
    assert set(manifest["parents"]) == {"sft"}
    assert set(world.manifest("evaluate")["parents"]) == {"sft", "ppo"}
    scores = tiny_scorers.scorer(kind).scores(demonstrations())
    mean, std = (manifest["metrics"][f"ppo/score/{name}"] for name in ("mean", "std"))
    assert (mean, std) == pytest.approx((fmean(scores), pstdev(scores)), rel=1e-4)
    for row in world.curve("ppo"):
        expected = (row["ppo/reward/score"] - mean) / std
        assert row["ppo/reward/normalised"] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    scorer = tiny_scorers.scorer(kind)
    for line in (world.out("evaluate") / "samples.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        answer = row["responses"]["ppo"]["greedy"]
        if answer["stopped"]:  # a text that was not cut inside a character
            messages = [*row["prompt"], {"role": "assistant", "content": answer["text"].strip()}]
            assert scorer.scores([messages])[0] == pytest.approx(answer["reward"], abs=1e-4)
    assert not world.out("reward").exists()
    assert [stage.name for stage in pipeline.needed(recipe_of(world))] == [
        "sft",
        "ppo",
        "evaluate",
        "report",
    ]


def test_ppo_and_evaluation_are_scored_by_a_function_of_the_users_own(world):
    """A file and the recipe: from the moments over the demonstrations to the table."""
    path = world.folder / "own.py"
    path.write_text("def score(told):\n    return [len(m[-1]['content']) for m in told]")
    world.recipe["ppo"]["reward_model"] = str(path)
    assert world.run("ppo") == world.run("evaluate") == 0
    metrics = world.manifest("ppo")["metrics"]
    lengths = [len(row["chosen"]) for row in rows()]
    moments = (metrics["ppo/score/mean"], metrics["ppo/score/std"])
    assert moments == pytest.approx((fmean(lengths), pstdev(lengths)))
    for line in (world.out("evaluate") / "samples.jsonl").read_text("utf-8").splitlines():
        answer = json.loads(line)["responses"]["ppo"]["greedy"]
        assert answer["reward"] == len(answer["text"].strip())
    before = stage_inputs(ppo.STAGE, recipe_of(world), {}, HashCache())
    path.write_text("def score(told):\n    return [0.0 for m in told]")
    after = stage_inputs(ppo.STAGE, recipe_of(world), {}, HashCache())
    assert {name for name in before if before[name] != after[name]} == {"ppo.reward_model.path"}


def test_a_score_without_a_scale_is_told_before_training(world, capsys):
    path = world.folder / "own.py"
    path.write_text("def score(told):\n    return [0.5 for m in told]")
    world.recipe["ppo"]["reward_model"] = str(path)
    assert world.run("ppo") == 2
    told = capsys.readouterr().err
    assert "all 20 rows of data.instructions the score 0.5, so there is no scale" in told
    assert told.count("\n") == 1
    assert world.run("ppo", "normalise_reward=false") == 0


def test_rloo_is_scored_by_the_same_reward_model(world):
    world.recipe["ppo"]["reward_model"] = str(world.folder / "decoder")
    path = world.folder / "recipe.yaml"
    path.write_text(json.dumps(world.recipe), "utf-8")
    argv = [str(path), f"runs_dir={world.folder / 'runs'}", "method=rloo"]
    from align.runs.runner import main

    assert main(*rlhf.STAGES, argv=argv) == 0
    assert set(world.manifest("rloo")["parents"]) == {"sft"}
    raw = world.curve("rloo")[0]["rloo/reward/score"]
    scores = tiny_scorers.scorer("decoder").scores(demonstrations())
    assert abs(raw - fmean(scores)) < 6 * pstdev(scores)


def test_the_fingerprint_goes_by_what_the_reward_model_is_not_by_where(world):
    folder = world.folder / "decoder"
    world.recipe["ppo"]["reward_model"] = {"path": str(folder)}

    def inputs():
        return stage_inputs(ppo.STAGE, recipe_of(world), {}, HashCache())

    before = inputs()
    assert str(world.folder) not in json.dumps(before)
    world.recipe["ppo"]["reward_model"]["path"] = str(folder.rename(world.folder / "moved"))
    assert inputs() == before
    (world.folder / "moved" / "chat_template.jinja").write_text("{{ messages }}")
    changed = inputs()
    assert {name for name in before if before[name] != changed[name]} == {"ppo.reward_model.path"}
    world.recipe["ppo"]["reward_model"] = {"path": "hub/name", "revision": "abc"}
    assert inputs()["ppo.reward_model.path"] == "hub/name"
    assert inputs()["ppo.reward_model.revision"] == "abc"


def test_without_normalisation_scores_are_raw_and_no_demonstrations_are_needed(world):
    world.recipe["ppo"]["reward_model"] = str(world.folder / "encoder")
    assert ppo.STAGE.data(recipe_of(world)).keys() == {"prompts", "instructions"}
    world.recipe["ppo"]["normalise_reward"] = False
    assert ppo.STAGE.data(recipe_of(world)).keys() == {"prompts"}
    assert world.run("ppo") == 0
    for row in world.curve("ppo"):
        assert row["ppo/reward/normalised"] == pytest.approx(row["ppo/reward/score"], rel=1e-5)


def test_prompts_that_the_reward_model_cannot_read_are_left_out_and_counted(world, capsys):
    """It reads 128 tokens; its tokens, not the policy's, are what counts."""
    long = [{"prompt": "하" * 60, "chosen": "x"}, {"prompt": "short", "chosen": "x"}]
    world.recipe["data"]["prompts"] = world.write("prompts.jsonl", [*long, *rows(3)])
    world.recipe["ppo"]["reward_model"] = str(world.folder / "decoder")
    assert world.run("ppo") == 0
    told = "data.prompts: left out 1 rows longer than the 128 tokens that"
    assert told in capsys.readouterr().out
    assert world.manifest("ppo")["metrics"]["ppo/data/too_long"] == 1
    world.recipe["data"]["prompts"] = world.write("prompts.jsonl", long[:1])
    assert world.run("ppo") == 3
    assert "all 1 rows are longer than the 128 tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["ppo.reward_model=nowhere"], "ppo.reward_model.path=nowhere: no such folder"),
        (
            ["ppo.reward_model=x", "critic=reward"],
            "critic=reward: the critic reads the policy's tokens",
        ),
        (["ppo.reward_model.path=x", "layout=shared"], "ppo.reward_model.path=x: no such folder"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(world, capsys, settings, told):
    assert world.run("ppo", *settings) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 1


def test_the_reward_stage_of_another_run_is_read_as_it_was_trained(world):
    """R1: as an external one it scores the tokens that its stage trained on, and no more.

    So it does if its template writes a line break after the stop token.
    """
    world.recipe["data"]["preferences"] = world.write("pairs.jsonl", rows())
    assert world.run("reward") == 0
    folder = world.out("reward") / "model"
    tokenizer, cpu = tiny.tokenizer(), torch.device("cpu")
    loaded = models.load_reward_model(folder, pad_id=0, device=cpu)
    ids = [chat.encode(tokenizer, messages)[0] for messages in demonstrations()]
    expected = pytest.approx(models.reward_scores(loaded, ids, pad_id=0), abs=1e-5)
    assert TextScorer.load(folder, device=cpu).scores(demonstrations()) == expected
    template = folder / "chat_template.jinja"
    end = "{% endgeneration %}"
    template.write_text(template.read_text("utf-8").replace(end, end + "{{ '\\n' }}"), "utf-8")
    scorer = TextScorer.load(folder, device=cpu)
    assert scorer.tokenizer.apply_chat_template(demonstrations()[0], tokenize=False)[-1] == "\n"
    assert scorer.scores(demonstrations()) == expected
