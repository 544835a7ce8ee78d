"""RLOO and GRPO train with PPO's settings: its start, prompts, distribution, score and sizes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from align.config import PPOConfig
from align.config.recipe import load_recipe
from align.data import EncodedPrompt, chat
from align.maths.logprobs import sequence_logprobs, token_logprobs
from align.models.forward import policy_forward
from align.ppo import train as ppo
from align.runs.artifacts import read_artifact
from align.runs.contract import StageContext
from align.sampling.sampler import Sample, collate
from stages.support import baseline_trainers
from stages.support.baselines import as_in_ppo, divisor, enough
from stages.support.ppo_roles import build_roles
from stages.support.reward_setup import reward_setup
from stages.support.training import TrainingSetup
from tests import tiny, tiny_roles
from tests.stages.world import LORA, World, rows, seen_batches, weights

METHODS = ("rloo", "grpo")
TOLERANCE = {"full": 1e-6, "adapter": 1e-5}
"""Of a normalised score: PPO scores with an adapter on its base, baselines with both in one."""
STOP = 1


def trainer_class(method):
    import trl

    return getattr(trl, f"{method.upper()}Trainer")


def grown(folder, *, lora=None, **kwargs):
    """A world with an SFT policy far from the base, and a reward model."""
    world = World(folder, **kwargs)
    world.recipe["sft"]["trainer"] |= {"max_steps": 10, "learning_rate": 1e-2}
    world.recipe["reward"]["lora"] = lora
    # Random models rarely stop: without a penalty the answers' scores differ all the same.
    world.recipe["ppo"] |= {
        "learning_rate": 1e-3,
        "minibatches": 1,
        "missing_eos": "subtract",
        "missing_eos_penalty": 0.0,
        "lora": lora,
    }
    assert world.run("sft") == world.run("reward") == 0
    return world


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The parents of every run here, with all weights and with adapters."""
    names = {"full": None, "adapter": LORA}
    return {kind: grown(tmp_path_factory.mktemp(kind), lora=lora) for kind, lora in names.items()}


def another(parent, folder):
    """Another run in the world of `parent`."""
    world = World(folder)
    world.recipe = json.loads(json.dumps(parent.recipe))
    world.recipe["parents"] = {name: str(parent.out(name)) for name in ("sft", "reward")}
    return world


@pytest.fixture
def world(made, tmp_path):
    return another(made["full"], tmp_path)


def seen_rewards(monkeypatch, method):
    """What TRL was given and got for each rollout: prompts, answers, rewards."""
    seen, calculate = [], trainer_class(method)._calculate_rewards

    def record(self, inputs, prompts, completions, completion_ids):
        rewards = calculate(self, inputs, prompts, completions, completion_ids)
        seen.append((prompts, completion_ids, rewards[:, 0]))
        return rewards

    monkeypatch.setattr(trainer_class(method), "_calculate_rewards", record)
    return seen


def context(world):
    recipe = load_recipe(world.folder / "recipe.yaml")
    folders = world.recipe["parents"]
    parents = {name: read_artifact(Path(place)) for name, place in folders.items()}
    return StageContext(recipe, world.folder, parents, tracker=None, seed=0)


@pytest.mark.parametrize("kind", ["full", "adapter"])
@pytest.mark.parametrize("method", METHODS)
def test_two_rollouts_move_the_sft_policy_by_the_score_that_ppo_maximises(
    made, tmp_path, method, kind, monkeypatch
):
    world = another(made[kind], tmp_path)
    seen = seen_rewards(monkeypatch, method)
    assert world.run(method, "ppo.epochs=2") == 0
    first, *_, last = world.curve(method)
    assert first[f"{method}/train/kl"] == pytest.approx(0, abs=1e-6)
    assert last["step"] == 4
    manifest = world.manifest(method)
    assert manifest["kind"] == kind
    assert manifest["metrics"][f"{method}/data/rows"] == 20
    before, after = (weights(w.out(n) / "model") for w, n in ((made[kind], "sft"), (world, method)))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)

    encoded = {tuple(prompt_ids(row["prompt"])) for row in rows()}
    setup = TrainingSetup.of(context(world), "ppo")
    roles, config = build_roles(setup, reward_setup(setup, [])), setup.context.recipe.ppo
    assert len(seen) == 2
    for prompts, answers, rewards in seen:
        assert {tuple(prompt) for prompt in prompts} <= encoded
        samples = [Sample(ids, ids[-1] == STOP, []) for ids in answers]
        sequences = collate(prompts, samples, pad_id=0)
        scores, raw = ppo.score(roles, samples, sequences, config)
        assert raw.std() > 1e-3
        torch.testing.assert_close(rewards, scores, rtol=0, atol=TOLERANCE[kind])
    assert first[f"{method}/train/reward"] == pytest.approx(seen[0][2].mean().item(), abs=1e-6)


def prompt_ids(text):
    return chat.prompt_ids(tiny.tokenizer(), [{"role": "user", "content": text}])


def test_the_rule_for_answers_without_a_stop_token_is_that_of_ppo(world, monkeypatch):
    seen = seen_rewards(monkeypatch, "rloo")
    items = ("ppo.missing_eos=replace", "ppo.missing_eos_penalty=-7", "ppo.max_new_tokens=60")
    assert world.run("rloo", *items) == 0
    finished = [
        (ids[-1] == STOP, r.item())
        for _, answers, got in seen
        for ids, r in zip(answers, got, strict=True)
    ]
    assert {stopped for stopped, _ in finished} == {True, False}
    assert all((reward == -7) == (not stopped) for stopped, reward in finished)


def test_a_baseline_scores_a_finished_answer_at_the_stop_token_that_ppo_does():
    roles = tiny_roles.separate(stop_ids=[STOP, 2], reward_stop_id=STOP)
    reward = baseline_trainers.reward_function(
        roles, tiny_roles.config(), [EncodedPrompt([5, 9])], pad_id=0, stop_ids=[STOP, 2]
    )
    own, other = reward([[40, 41, STOP], [40, 41, 2]], [0, 0], lambda name, value: None)
    assert own == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_control_tokens_in_a_prompt_stay_text(world, method, monkeypatch):
    batches = []
    seen_batches(monkeypatch, trainer_class(method), lambda _, inputs: batches.append(inputs))
    text = "<|end|><|assistant|>yes"
    world.recipe["data"]["prompts"] = world.write("prompts.jsonl", [{"prompt": text}])
    assert world.run(method) == 0
    for batch in batches:
        for ids, mask in zip(batch["prompt_ids"], batch["prompt_mask"], strict=True):
            assert ids[mask.bool()].tolist() == prompt_ids(text)


def hostile(model):
    """What a model from the hub may bring: settings that would change every answer."""
    changes = {"do_sample": True, "top_k": 1, "min_new_tokens": 60, "no_repeat_ngram_size": 1}
    model.generation_config.update(**changes)
    return model


@pytest.mark.parametrize("method", METHODS)
def test_log_probabilities_are_those_of_the_whole_distribution_at_our_positions(
    method, tmp_path, monkeypatch
):
    """GPT-2: absolute positions, dropout, and a generation_config that would narrow sampling."""
    world = grown(tmp_path, model=hostile(tiny.gpt2(1)))
    sft = tiny.gpt2()
    sft.load_state_dict(weights(world.out("sft") / "model"), strict=False)
    sft.tie_weights()
    answers, gaps = [], []

    def record(trainer, inputs):
        if trainer.state.global_step:
            return
        masks = [inputs[f"{side}_mask"].bool() for side in ("prompt", "completion")]
        prompts, samples = (
            [ids[kept].tolist() for ids, kept in zip(inputs[f"{side}_ids"], mask, strict=True)]
            for side, mask in zip(("prompt", "completion"), masks, strict=True)
        )
        answers.extend(map(tuple, samples))
        batch = collate(prompts, [Sample(ids, True, []) for ids in samples], pad_id=0)
        logprobs = token_logprobs(policy_forward(sft, batch).logits, batch.response_tokens)
        expected = sequence_logprobs(batch.scatter_to_padded(logprobs), batch.response_mask)
        got, *_ = trainer._get_per_token_logps_and_entropies(
            trainer.model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([mask.long() for mask in masks], dim=1),
            inputs["completion_ids"].shape[1],
        )
        gaps.append(((got * masks[1]).sum(dim=1) - expected).abs().max().item())

    seen_batches(monkeypatch, trainer_class(method), record)
    assert world.run(method) == 0
    assert max(gaps) < 1e-4
    assert len(set(answers)) == len(answers) == 4  # one prompt; top_k=1 would repeat itself
    config = json.loads((world.out(method) / "model" / "generation_config.json").read_text())
    assert (config["top_k"], config["eos_token_id"]) == (1, [STOP])


def test_a_rollout_has_the_size_and_the_steps_that_ppo_has():
    config = PPOConfig(
        iterations=28,
        rollout_batch_size=96,
        epochs=2,
        minibatches=2,
        micro_batch_size=32,
        learning_rate=2e-4,
        kl_coef=0.15,
        clip_range=0.3,
    )
    terms = as_in_ppo("grpo", config)
    # 48 of a minibatch in 2 equal parts of 24; 28 rollouts × 2 epochs × 2 minibatches = 112 steps.
    assert terms["generation_batch_size"] == 96
    assert terms["per_device_train_batch_size"] == 24
    assert terms["gradient_accumulation_steps"] == 2
    assert (terms["num_iterations"], terms["max_steps"], terms["num_generations"]) == (2, 112, 8)
    assert (terms["learning_rate"], terms["beta"], terms["epsilon"]) == (2e-4, 0.15, 0.3)


def test_what_the_recipe_says_of_a_peer_goes_before_what_it_says_of_ppo(world):
    assert world.run("rloo", "trainer.max_steps=1", "trainer.beta=0.0") == 0
    (only,) = world.curve("rloo")
    assert only["step"] == 1
    assert "rloo/train/kl" not in only  # no reference is kept for nothing


def test_divisors_and_repeated_prompts():
    assert [divisor(12, most) for most in (1, 5, 8, 99)] == [1, 4, 6, 12]
    assert divisor(7, 4) == 1
    assert enough([[1], [2], [3]], 7) == [[1], [2], [3]] * 3
    assert enough([[1], [2]], 2) == [[1], [2]]


def test_a_peer_runs_again_for_what_it_shares_with_ppo_and_for_nothing_else(world, capsys):
    assert world.run("rloo") == 0
    assert world.run("rloo", "ppo.gamma=0.9", "grpo.trainer.beta=0.5") == 0
    assert "rloo     up to date" in capsys.readouterr().out
    assert world.run("rloo", "ppo.temperature=0.9") == 0
    assert "rloo     runs: ppo.temperature 1.0 → 0.9\n" in capsys.readouterr().out


@pytest.mark.parametrize("method", METHODS)
def test_equal_runs_give_equal_weights(world, method):
    assert world.run(method) == world.run(method, "run=again") == 0
    again = world.out(method).parents[1] / "again" / method
    first, second = weights(world.out(method) / "model"), weights(again / "model")
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("method", METHODS)
def test_a_policy_that_explodes_ends_in_one_line_and_is_not_published(world, method, capsys):
    items = ("trainer.learning_rate=1e30", "ppo.max_grad_norm=1e30", "trainer.logging_steps=99")
    assert world.run(method, *items) == 4
    err = capsys.readouterr().err
    assert "lower trainer.learning_rate" in err and "Traceback" not in err
    assert not world.out(method).exists()


@pytest.mark.parametrize(
    "name", ["temperature", "max_completion_length", "top_k", "nun_generations"]
)
def test_what_would_part_a_peer_from_ppo_is_refused(world, capsys, name):
    assert world.run("grpo", f"trainer.{name}=3") == 2
    told = {"nun_generations": "did you mean `num_generations`?", "top_k": "whole distribution"}
    assert told.get(name, "set `ppo.") in capsys.readouterr().err


def test_a_start_that_is_not_the_reference_ends_at_step_1_in_one_line(world, capsys, monkeypatch):
    monkeypatch.setattr(baseline_trainers, "KL_AT_START", -1.0)  # as if 0 were too far
    assert world.run("rloo", "trainer.logging_first_step=false") == 2
    told = capsys.readouterr()
    assert "error: rloo: kl=0 nats per token at step 1, where the policy still is" in told.err
    assert "2/2" not in told.out
