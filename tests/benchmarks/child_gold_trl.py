"""TRL's PPO on the embedded world, behind a gate: same SFT policy, reward model and prompts.

What TRL has no setting for is given to it all the same: its reward model and critic speak in units
of the normalised score, as ours do, by a scaled head with a bias. Without it the KL coefficient and
the value clip would mean something else to it.
"""

from __future__ import annotations

import tempfile

import torch
from torch import nn
from transformers import PreTrainedModel

from align import ppo
from tests.benchmarks.child_trl import Batches, build, open_gate
from tests.benchmarks.world import World


def normalised(model: PreTrainedModel, mean: float, std: float) -> PreTrainedModel:
    """The scorer of (score − mean) / std."""
    head = nn.Linear(model.score.in_features, 1)
    head.weight.data = model.score.weight.data / std
    head.bias.data.fill_(-mean / std)
    model.score = head
    return model


def main() -> None:
    gate = open_gate()
    world = World.of(gate.job)
    handoff = world.parents["reward"].manifest
    mean, std = handoff.reward_mean, handoff.reward_std
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
        generator = torch.Generator().manual_seed(gate.job["seed"])
        size = world.recipe.ppo.rollout_batch_size
        batches = ppo.cycle(world.prompts(), size, generator=generator)
        trainer.dataloader = Batches(gate, batches, world.tokenizer.pad_token_id)
        gate.probe = lambda: world.gold(policy)
        trainer.train()
        gate.wait()


if __name__ == "__main__":
    main()
