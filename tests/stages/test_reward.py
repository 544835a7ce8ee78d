"""The reward model starts from the SFT policy, is read at the stop token, and reports its scale."""

from __future__ import annotations

import math
from statistics import fmean, pstdev

import pytest
import torch

from align.data import chat
from align.data.rows import Preference
from align.models import load as models
from stages.reward import accuracy
from tests import tiny
from tests.stages.world import LORA, World, rows, seen_batches, weights

CPU = torch.device("cpu")


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    assert world.run("sft") == 0
    return world


def encode(prompt, answer):
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return chat.encode(tiny.tokenizer(), messages)[0]


def load(world):
    return models.load_reward_model(world.out("reward") / "model", pad_id=0, device=CPU)


def test_it_trains_on_the_ids_that_ppo_will_score_and_reads_them_at_the_stop_token(
    world, monkeypatch
):
    from trl import RewardTrainer

    batches = []
    seen_batches(monkeypatch, RewardTrainer, lambda _, inputs: batches.append(dict(inputs)))
    assert world.run("reward") == 0
    expected = {
        tuple(encode(r["prompt"], r[side])) for r in rows() for side in ("chosen", "rejected")
    }
    for batch in batches:
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
            sequence = ids[mask.bool()].tolist()
            assert tuple(sequence) in expected
            assert sequence[-1] == 1
            assert 1 not in ids[~mask.bool()]


def test_it_starts_from_the_sft_policy_with_a_small_random_head(world, monkeypatch):
    from trl import RewardTrainer

    start = {}

    def record(trainer, _):
        if not start:
            start.update({k: v.clone() for k, v in trainer.model.state_dict().items()})

    seen_batches(monkeypatch, RewardTrainer, record)
    assert world.run("reward") == 0
    trunk = weights(world.out("sft") / "model")
    assert all(torch.equal(start[name], value) for name, value in trunk.items() if name in start)
    assert len(start.keys() & trunk.keys()) == len(trunk)
    assert start["score.weight"].shape == (1, 32)
    assert 0.69 - 0.3 < world.curve("reward")[0]["reward/train/loss"] < 0.69 + 0.3


@pytest.mark.parametrize("lora", [None, LORA])
def test_it_learns_sixteen_pairs_by_heart(world, lora):
    """R3: all 16 right, in full and with LoRA."""
    settings = {"max_steps": 40, "per_device_train_batch_size": 16, "learning_rate": 3e-3}
    world.recipe["reward"] |= {"trainer": settings, "lora": lora}
    world.recipe["data"]["preferences"] = world.write("sixteen.jsonl", rows(16))
    assert world.run("reward") == 0
    model = load(world)
    better, worse = (
        models.reward_scores(model, [encode(r["prompt"], r[s]) for r in rows(16)], pad_id=0)
        for s in ("chosen", "rejected")
    )
    assert all(b > w for b, w in zip(better, worse, strict=True))


@pytest.mark.parametrize("lora", [None, LORA])
def test_the_manifest_holds_scale_and_held_out_accuracy_of_what_is_published(world, lora, capsys):
    if lora:
        world.recipe["reward"]["lora"] = lora
    assert world.run("reward") == 0
    manifest, model = world.manifest("reward"), load(world)

    def score(some, side):
        return models.reward_scores(model, [encode(r["prompt"], r[side]) for r in some], pad_id=0)

    demonstrations = score(rows(), "chosen")
    assert manifest["reward_mean"] == pytest.approx(fmean(demonstrations), abs=1e-4)
    assert manifest["reward_std"] == pytest.approx(pstdev(demonstrations), rel=1e-3)
    heldout = rows(26)[20:]  # the first twenty were trained on
    assert "20 pairs left out: trained on" in capsys.readouterr().out
    margins = [
        b - w for b, w in zip(score(heldout, "chosen"), score(heldout, "rejected"), strict=True)
    ]
    metrics = manifest["metrics"]
    assert metrics["reward/heldout/pairs"] == 6
    assert metrics["reward/heldout/accuracy"] == pytest.approx(fmean(m > 0 for m in margins))
    assert metrics["reward/heldout/margin"] == pytest.approx(fmean(margins), abs=1e-4)
    assert {"reward/family/greet", "reward/family/sum"} <= metrics.keys()
    assert manifest["kind"] == ("adapter" if lora else "full")
    if lora:
        adapter = weights(world.out("reward") / "adapter")
        assert any(name.endswith("score.weight") for name in adapter)


def test_accuracy_counts_ties_half_and_families_apart():
    pairs = [Preference([], "", "", "", {"family": name}) for name in "aab"]
    metrics = accuracy(pairs, [1.0, 0.0, 0.0], [0.0, 0.0, 2.0])
    assert metrics["reward/heldout/accuracy"] == 0.5
    assert (metrics["reward/family/a"], metrics["reward/family/b"]) == (0.75, 0.0)
    assert metrics["reward/heldout/margin"] == pytest.approx(-1 / 3)
    losses = [math.log(1 + math.exp(-1)), math.log(2), math.log(1 + math.exp(2))]
    assert metrics["reward/heldout/loss"] == pytest.approx(fmean(losses))


def test_dropout_is_off_while_it_trains(tmp_path, monkeypatch):
    from trl import RewardTrainer

    model = tiny.llama(1)
    model.config.attention_dropout = 0.5
    world = World(tmp_path, model=model)
    world.recipe["reward"]["lora"] = LORA
    assert world.run("sft") == 0
    rates = []

    def record(trainer, _):
        for module in trainer.model.modules():
            if isinstance(module, torch.nn.Dropout):
                rates.append(module.p)
            rates.append(getattr(module, "attention_dropout", 0.0))

    seen_batches(monkeypatch, RewardTrainer, record)
    assert world.run("reward") == 0
    assert set(rates) == {0.0}


def test_nothing_to_build_on_is_told_with_the_remedy(tmp_path, capsys):
    assert World(tmp_path).run("reward") == 2
    assert "no sft artifact here; run `make sft` first" in capsys.readouterr().err
