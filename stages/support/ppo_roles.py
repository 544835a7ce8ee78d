"""The models of PPO, loaded from what the SFT and reward stages published."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from align.config import PPOConfig
from align.data import chat
from align.messages.errors import ConfigError
from align.models import load as models
from align.ppo.roles import SeparateRoles, SharedRoles
from align.runs.contract import StageContext
from stages.support.reward_setup import RewardSetup, own_reward_model
from stages.support.training import TrainingSetup


def build_roles(setup: TrainingSetup, reward: RewardSetup) -> SharedRoles | SeparateRoles:
    """Policy, reference, critic and reward model: adapters on one base, or full models."""
    context, config = setup.context, setup.context.recipe.ppo
    torch.manual_seed(context.seed)  # adapters start at random
    policy = setup.load()
    critic = config.critic
    if critic == "auto":
        critic = "reward" if reward.scorer is None else "zero"
    kwargs: dict[str, Any] = {
        "pad_id": setup.tokenizer.pad_token_id,
        "stop_ids": models.stop_ids(setup.tokenizer, policy),
        "critic": critic,
        "reward_mean": reward.mean,
        "reward_std": reward.std,
        "reward_stop_id": chat.stop_id(setup.tokenizer),
    }
    lora = None if config.lora is None else models.lora_config(config.lora, task="causal")
    if shared(context):
        assert lora is not None
        adapter = reward.scorer or context.parents["reward"].adapter
        assert adapter is not None
        return SharedRoles(policy, lora, reward_adapter=adapter, **kwargs)
    trained: PreTrainedModel | PeftModel = policy
    if config.lora is not None:
        trained = models.add_lora(policy, config.lora, task="causal")
    scorer = reward.scorer or own_reward_model(context, setup.tokenizer, trained=lora is None)
    compute_dtype = setup.compute_dtype if lora is None else None
    return SeparateRoles(
        trained, setup.load(), scorer, value_lora=lora, compute_dtype=compute_dtype, **kwargs
    )


def shared(context: StageContext) -> bool:
    """Whether one base carries all roles."""
    reward = context.parents.get("reward")
    return check_layout(context.recipe.ppo, adapted=reward is None or reward.adapter is not None)


def check_layout(config: PPOConfig, *, adapted: bool) -> bool:
    """Whether one base carries all roles: that takes LoRA here and in the reward stage, if any.

    Args:
        adapted: whether the reward model is an adapter, or an external one.
    """
    possible = config.lora is not None and adapted
    if config.layout == "shared" and not possible:
        missing = (
            "ppo.lora is not set" if config.lora is None else "reward was trained without LoRA"
        )
        raise ConfigError(
            "ppo.layout=shared: {missing}; set it, or use ppo.layout=separate", missing=missing
        )
    return possible and config.layout != "separate"
