"""DPO and PPO start from the SFT policy and have it as their reference, in full and with LoRA."""

from __future__ import annotations

import math

import pytest
import torch

from align.data import chat
from tests import tiny
from tests.stages.world import LORA, World, rows, seen_batches, weights


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    # Far from the base, so that a reference that is the base would show.
    settings = {"max_steps": 10, "per_device_train_batch_size": 10, "learning_rate": 1e-2}
    world.recipe["sft"]["trainer"] = settings
    assert world.run("sft") == 0
    return world


@pytest.mark.parametrize("lora", [None, LORA])
def test_dpo_starts_at_ln_2_from_the_sft_policy(world, lora):
    world.recipe["dpo"]["lora"] = lora
    assert world.run("dpo") == 0
    first = world.curve("dpo")[0]
    assert first["step"] == 1
    assert first["dpo/train/loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert first["dpo/rewards/chosen"] == pytest.approx(0, abs=1e-4)
    assert first["dpo/rewards/rejected"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("lora", [None, LORA])
def test_the_reference_of_dpo_is_the_sft_policy_and_never_moves(world, lora, monkeypatch):
    from trl import DPOTrainer

    world.recipe["dpo"] |= {"lora": lora}
    sft = tiny.llama()
    sft.load_state_dict(weights(world.out("sft") / "model"), strict=False)
    sft.tie_weights()
    gaps = []

    def record(trainer, inputs):
        ids, mask = inputs["input_ids"], inputs["completion_mask"][:, 1:]
        logits = sft(input_ids=ids, attention_mask=inputs["attention_mask"]).logits[:, :-1]
        picked = logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
        expected = torch.cat(
            trainer.compute_ref_log_probs(trainer.ref_model or trainer.model, inputs)
        )
        gaps.append((expected - (picked * mask).sum(1)).abs().max().item())

    seen_batches(monkeypatch, DPOTrainer, record)
    assert world.run("dpo", "trainer.max_steps=4", "trainer.learning_rate=1e-2") == 0
    assert len(gaps) == 4
    assert max(gaps) < 1e-3


def test_dpo_compares_whole_answers_through_their_stop_tokens(world, monkeypatch):
    from trl import DPOTrainer

    batches = []
    seen_batches(monkeypatch, DPOTrainer, lambda _, inputs: batches.append(dict(inputs)))
    assert world.run("dpo") == 0
    tokenizer = tiny.tokenizer()
    expected = set()
    for row in rows():
        prompt = [{"role": "user", "content": row["prompt"]}]
        for side in ("chosen", "rejected"):
            answer = chat.response_ids(tokenizer, prompt, row[side])
            expected.add((tuple(chat.prompt_ids(tokenizer, prompt)), tuple(answer)))
    for batch in batches:
        for ids, mask, counts in zip(
            batch["input_ids"], batch["attention_mask"], batch["completion_mask"], strict=True
        ):
            prompt = tuple(ids[mask.bool() & ~counts.bool()].tolist())
            answer = tuple(ids[counts.bool()].tolist())
            assert (prompt, answer) in expected
            assert answer[-1] == 1


def test_dpo_learns_the_preference(world):
    world.recipe["dpo"]["trainer"] |= {"max_steps": 15, "learning_rate": 3e-3}
    assert world.run("dpo") == 0
    last = world.curve("dpo")[-1]
    assert last["step"] == 15
    assert last["dpo/rewards/accuracies"] > 0.9
    assert last["dpo/rewards/margins"] > 0.1


@pytest.mark.parametrize(
    ("reward_lora", "ppo", "kind"),
    [
        (None, {}, "full"),
        (LORA, {"lora": LORA}, "adapter"),
        (None, {"lora": LORA}, "adapter"),
        (LORA, {"layout": "separate"}, "full"),
        (None, {"critic": "head"}, "full"),
        (LORA, {"lora": LORA, "critic": "head"}, "adapter"),
    ],
)
def test_ppo_runs_in_every_layout_from_the_sft_policy(world, reward_lora, ppo, kind):
    world.recipe["reward"]["lora"] = reward_lora
    world.recipe["ppo"] |= ppo | {"learning_rate": 1e-2}
    assert world.run("reward") == world.run("ppo") == 0
    first, second = world.curve("ppo")
    assert first["ppo/kl/sequence"] == pytest.approx(0, abs=1e-3)
    assert second["ppo/kl/sequence"] != 0
    manifest = world.manifest("ppo")
    assert manifest["kind"] == kind
    assert manifest["metrics"]["ppo/data/rows"] == 20
    before, after = weights(world.out("sft") / "model"), weights(world.out("ppo") / "model")
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_ppo_scales_scores_by_what_the_reward_stage_measured(world):
    world.recipe["ppo"] |= {"missing_eos": "subtract", "missing_eos_penalty": 0.0}
    assert world.run("reward") == world.run("ppo") == 0
    mean, std = (world.manifest("reward")[key] for key in ("reward_mean", "reward_std"))
    for row in world.curve("ppo"):
        expected = (row["ppo/reward/score"] - mean) / std
        assert row["ppo/reward/normalised"] == pytest.approx(expected, rel=1e-4)
    assert world.run("ppo", "normalise_reward=false") == 0
    for row in world.curve("ppo"):
        assert row["ppo/reward/normalised"] == pytest.approx(row["ppo/reward/score"], rel=1e-4)


def test_shared_layout_without_a_reward_adapter_is_refused(world, capsys):
    world.recipe["ppo"] |= {"layout": "shared", "lora": LORA}
    assert world.run("reward") == 0
    assert world.run("ppo") == 2
    assert "ppo.layout=shared: reward was trained without LoRA" in capsys.readouterr().err
    assert not world.out("ppo").exists()


def test_a_method_must_be_chosen(world, capsys):
    from align.runs.runner import main
    from stages import rlhf

    assert main(*rlhf.STAGES, argv=[str(world.folder / "recipe.yaml")]) == 2
    assert "choose one of dpo, kto, ppo" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["sft", "ppo"])
def test_full_fine_tuning_in_bfloat16_loses_no_small_step(world, name):
    """Steps of 1e-7 on weights of about .2: they show in the published float32 weights."""
    assert world.run("reward") == 0
    world.recipe["sft"]["trainer"]["learning_rate"] = 1e-7
    world.recipe["ppo"] |= {"learning_rate": 1e-7}
    start = weights(world.base if name == "sft" else world.out("sft") / "model")
    assert world.run(name, "model.dtype=bfloat16") == 0
    end = weights(world.out(name) / "model")
    for key, before in start.items():
        assert end[key].dtype == torch.float32
        assert 0 < (end[key] - before).abs().max() < 1e-5


def test_prompts_with_checks_are_held_back_and_probed(world):
    check = {"kind": "contains_any", "values": ["It is"], "core": True}
    checked = [row | {"checks": [check]} for row in rows(30)]
    world.recipe["data"]["prompts"] = world.write("prompts.jsonl", checked)
    world.recipe["ppo"] |= {"iterations": 3, "probe_every": 2}
    assert world.run("reward") == world.run("ppo") == 0
    metrics = world.manifest("ppo")["metrics"]
    assert (metrics["ppo/data/rows"], metrics["ppo/data/held_back"]) == (30, 3)
    gold = [row.get("ppo/probe/gold") for row in world.curve("ppo")]
    assert gold[1] is None
    assert all(0 <= found <= 1 for found in (gold[0], gold[2]))
    assert world.run("ppo", "probe_prompts=0") == 0
    assert world.manifest("ppo")["metrics"]["ppo/data/held_back"] == 0
    assert not any("ppo/probe/gold" in row for row in world.curve("ppo"))


def test_an_alarm_is_one_line_or_the_end_of_the_stage(world, capsys):
    world.recipe["ppo"] |= {"iterations": 4, "learning_rate": 1.0, "layout": "separate"}
    assert world.run("reward") == 0
    assert world.run("ppo", "on_alarm=stop") == 4
    assert not world.out("ppo").exists()
    told = capsys.readouterr()
    assert "ppo.on_alarm=stop and the alarm" in told.err
    failed = world.out("ppo").parent / "failed" / "ppo.metrics.jsonl"
    assert '"ppo/alarm/kl_far": 1.0' in failed.read_text("utf-8")
    assert world.run("ppo") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "kl_far" in line]
    assert len(lines) == 1
    assert lines[0].startswith("alarm    kl_far, iteration 3: the policy has gone far from the re")
