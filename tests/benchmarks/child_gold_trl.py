"""TRL's PPO on the embedded world, behind a gate: same SFT policy, reward model and prompts.

What TRL has no setting for is given to it all the same: its reward model and critic speak in units
of the normalised score, as ours do, by a scaled head with a bias. Without it the KL coefficient and
the value clip would mean something else to it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from tests.benchmarks.child_trl import Batches, build, open_gate
from tests.benchmarks.world import World


def normalised(model: Any, mean: float, std: float) -> PreTrainedModel:
    """The scorer of (score − mean) / std."""
    head = nn.Linear(model.score.in_features, 1)
    head.weight.data = model.score.weight.data / std
    head.bias.data.fill_(-mean / std)
    model.score = head
    return model


def shuffled(prompts: list[list[int]], size: int, *, seed: int) -> Iterator[list[list[int]]]:
    """Batches without end, every prompt once before any comes again, as ours draws them."""
    generator = torch.Generator().manual_seed(seed)
    waiting: list[int] = []
    while True:
        while len(waiting) < size:
            waiting += torch.randperm(len(prompts), generator=generator).tolist()
        batch, waiting = waiting[:size], waiting[size:]
        yield [prompts[index] for index in batch]


def main() -> None:
    gate = open_gate()
    world = World.of(gate.job)
    handoff = world.parents["reward"].manifest
    mean, std = handoff.reward_mean, handoff.reward_std
    assert mean is not None and std is not None, "every reward stage measures them"
    with tempfile.TemporaryDirectory() as folder:
        policy = world.policy()
        trainer = build(
            gate,
            folder,
            processing_class=world.tokenizer,
            model=policy,
            ref_model=world.policy(),
            reward_model=normalised(world.reward_model(), mean, std),
            value_model=normalised(world.reward_model(), mean, std),
        )
        size = world.recipe.ppo.rollout_batch_size
        batches = shuffled(world.prompts(), size, seed=gate.job["seed"])
        trainer.dataloader = Batches(gate, batches, world.tokenizer.pad_token_id)
        gate.probe = lambda: world.gold(policy)
        trainer.train()
        gate.wait()


if __name__ == "__main__":
    main()
