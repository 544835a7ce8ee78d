"""Who samples PPO's responses: the policy itself, or vLLM beside it."""

from __future__ import annotations

from collections.abc import Callable

from transformers import PreTrainedModel

from align.config import PPOConfig
from align.ppo.roles import Roles
from align.sampling.sampler import ModelSampler, Sampler

SAMPLING_BATCH = 256  # rows decoded at once; holds a key-value cache, no gradients

SamplerOf = Callable[[PreTrainedModel], Sampler]
"""A sampler with the weights that a model has now; called once an iteration."""


def sampler_for(roles: Roles, config: PPOConfig) -> SamplerOf:
    """What `ppo.sampler` names, made once a run."""
    if config.sampler == "vllm":
        from align.sampling.vllm import VLLMSampler

        engine = VLLMSampler(
            stop_ids=roles.stop_ids,
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            memory=config.vllm_memory,
        )
        return engine.holding

    def model_sampler(model: PreTrainedModel) -> Sampler:
        return ModelSampler(
            model,
            pad_id=roles.pad_id,
            stop_ids=roles.stop_ids,
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            batch_size=SAMPLING_BATCH,
            value_head=roles.policy_value_head,
        )

    return model_sampler
