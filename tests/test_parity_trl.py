"""The formula read is the formula run: our losses and TRL's agree on every batch of a training run.

Losses and gradients are compared at each micro-batch, away from the start, with ragged lengths and
gradient accumulation.
"""

from __future__ import annotations

import pytest
import torch

from align.maths.logprobs import sequence_logprobs, token_logprobs
from align.maths.losses import bradley_terry_loss, dpo_loss, sft_loss
from tests.stages.world import LORA, World

BETA = 0.3
TRAINER = {
    "per_device_train_batch_size": 3,
    "gradient_accumulation_steps": 2,
    "max_steps": 3,
    "learning_rate": 1e-2,
}


@pytest.fixture(params=[None, LORA], ids=["full", "lora"])
def world(tmp_path, request):
    world = World(tmp_path)
    for stage in ("sft", "reward", "dpo"):
        # Dropout would give the two losses different noise; it is on in SFT only.
        lora = request.param and request.param | {"dropout": 0.0}
        world.recipe[stage] |= {"lora": lora, "trainer": dict(TRAINER)}
    world.recipe["dpo"]["trainer"]["beta"] = BETA
    return world


def compare(monkeypatch, trainer_class, ours):
    """Record (TRL's loss, ours, largest relative difference of a gradient) for each batch."""
    compute, seen = trainer_class.compute_loss, []

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        batch = dict(inputs)
        loss = compute(self, model, inputs, return_outputs, num_items_in_batch)
        expected = ours(self, model, batch, num_items_in_batch).loss
        trained = [p for p in model.parameters() if p.requires_grad]
        theirs = torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True)
        own = torch.autograd.grad(expected, trained, allow_unused=True)
        assert [g is None for g in theirs] == [g is None for g in own]
        gap = max(
            ((a - b).norm() / (b.norm() + 1e-6)).item()
            for a, b in zip(theirs, own, strict=True)
            if a is not None
        )
        seen.append((loss.item(), expected.item(), gap))
        return loss

    monkeypatch.setattr(trainer_class, "compute_loss", compute_loss)
    return seen


def response_logprobs(model, batch):
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return token_logprobs(logits[:, :-1], batch["input_ids"][:, 1:])


def check(seen, batches=6):
    assert len(seen) == batches
    for theirs, ours, gap in seen:
        assert theirs == pytest.approx(ours, rel=1e-5, abs=1e-6)
        assert gap < 1e-4
    assert len({round(ours, 4) for _, ours, _ in seen}) > 1


def test_sft_loss_is_the_token_mean_over_the_accumulated_batch(world, monkeypatch):
    from trl import SFTTrainer

    def ours(trainer, model, batch, tokens):
        mask = batch["labels"][:, 1:] != -100
        return sft_loss(response_logprobs(model, batch), mask, denominator=tokens)

    seen = compare(monkeypatch, SFTTrainer, ours)
    assert world.run("sft") == 0
    check(seen)


def test_reward_loss(world, monkeypatch):
    from trl import RewardTrainer

    def ours(trainer, model, batch, tokens):
        scores = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return bradley_terry_loss(*scores.squeeze(-1).chunk(2))

    assert world.run("sft") == 0
    seen = compare(monkeypatch, RewardTrainer, ours)
    assert world.run("reward") == 0
    check(seen)


def test_dpo_loss(world, monkeypatch):
    from trl import DPOTrainer

    def ours(trainer, model, batch, tokens):
        mask = batch["completion_mask"][:, 1:].bool()
        policy = sequence_logprobs(response_logprobs(model, batch), mask)
        with torch.no_grad():
            if trainer.ref_model is None:
                with model.disable_adapter():
                    logprobs = response_logprobs(model, batch)
            else:
                logprobs = response_logprobs(trainer.ref_model, batch)
        reference = sequence_logprobs(logprobs, mask)
        return dpo_loss(*policy.chunk(2), *reference.chunk(2), beta=BETA)

    assert world.run("sft") == 0
    seen = compare(monkeypatch, DPOTrainer, ours)
    assert world.run("dpo") == 0
    check(seen)
