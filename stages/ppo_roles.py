"""The models of PPO, loaded from what the SFT and reward stages published."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from align import models
from align.errors import ConfigError
from align.roles import SeparateRoles, SharedRoles
from stages.contract import StageContext
from stages.trl_support import Base


def build_roles(base: Base) -> SharedRoles | SeparateRoles:
    """Policy, reference, critic and reward model: adapters on one base, or full models."""
    context = base.context
    torch.manual_seed(context.seed)  # adapters start at random
    config, reward = context.recipe.ppo, context.parents["reward"]
    policy = base.load()
    kwargs: dict[str, Any] = {
        "pad_id": base.tokenizer.pad_token_id,
        "stop_ids": models.stop_ids(base.tokenizer, policy),
        "critic_init": config.critic_init,
    }
    if config.normalise_reward:
        handoff = reward.manifest
        kwargs |= {"reward_mean": handoff.reward_mean, "reward_std": handoff.reward_std}
    lora = None if config.lora is None else models.lora_config(config.lora, task="causal")
    if shared(context):
        assert lora is not None and reward.adapter is not None
        return SharedRoles(policy, lora, reward_adapter=reward.adapter, **kwargs)
    trained: PreTrainedModel | PeftModel = policy
    if config.lora is not None:
        trained = models.add_lora(policy, config.lora, task="causal")
    scorer = models.load_reward_model(
        reward.model,
        pad_id=base.tokenizer.pad_token_id,
        dtype=context.recipe.model.dtype if lora is not None else "float32",  # the critic's start
        device=base.device,
    )
    arithmetic = base.arithmetic if lora is None else None
    return SeparateRoles(
        trained, base.load(), scorer, value_lora=lora, arithmetic=arithmetic, **kwargs
    )


def shared(context: StageContext) -> bool:
    """Whether one base carries all roles: that takes LoRA here and in the reward stage."""
    config, reward = context.recipe.ppo, context.parents["reward"]
    possible = config.lora is not None and reward.adapter is not None
    if config.layout == "shared" and not possible:
        missing = (
            "ppo.lora is not set" if config.lora is None else "reward was trained without LoRA"
        )
        raise ConfigError(f"ppo.layout=shared: {missing}; set it, or use ppo.layout=separate")
    return possible and config.layout != "separate"
