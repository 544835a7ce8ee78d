"""What PPO and its baselines practise on."""

from __future__ import annotations

from align.data import EncodedPrompt, Prompt
from align.ppo.probe import hold_back
from stages.support.encoded import encode_prompts
from stages.support.reward_setup import RewardSetup
from stages.support.training import TrainingSetup


def to_practise(
    setup: TrainingSetup, reward: RewardSetup
) -> tuple[list[EncodedPrompt], list[Prompt]]:
    """The prompts that leave room for an answer, encoded, and those that are held back."""
    config = setup.context.recipe.ppo
    rows, held = hold_back(reward.rows, config.probe_prompts)
    encoded = encode_prompts(setup, rows)
    room = config.max_new_tokens
    return setup.within(encoded, lambda prompt: len(prompt.ids), "prompts", room=room), held
