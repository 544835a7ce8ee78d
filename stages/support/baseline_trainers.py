"""TRL's RLOO and GRPO trainers, held to PPO's token ids, distribution, positions and score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from align.config import PPOConfig
from align.data import EncodedPrompt, chat
from align.maths.masks import position_ids
from align.maths.timeline import Sequences
from align.messages.errors import ConfigError, DivergedError
from align.models import load as models
from align.models.forward import computing_in, final_scores, trunk_of
from align.ppo import train as ppo
from align.ppo.roles import Roles
from align.sampling.sampler import Sample, collate_prompts
from stages.support.reward_setup import RewardSetup, own_reward_model
from stages.support.training import TrainingSetup

Ids = list[int]
BROKEN = "probability tensor"
"""In what torch says when it is to sample from logits that are no numbers."""

KL_AT_START = 1e-4
"""Nats per token."""


def with_our_settings(trainer_class: type[Any]) -> type[Any]:
    """A trainer that takes each `prompt` as token ids, and tells when there is none to sample."""

    class EncodedTrainer(trainer_class):
        def _tokenize_prompts(self, prompts: list[Ids]) -> tuple[list[Ids], None, dict[str, Any]]:
            return prompts, None, {}  # encoded by us; TRL would render and tokenise them again

        def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
            try:
                return super().training_step(*args, **kwargs)
            except RuntimeError as error:
                if BROKEN not in str(error):
                    raise
                raise DivergedError(
                    "the policy's logits are not finite at step {step}; lower "
                    "trainer.learning_rate, or ppo.learning_rate",
                    step=self.state.global_step + 1,
                ) from error

    return EncodedTrainer


class RolloutReward:
    """The reward model alone, with what `score` of align/ppo/train.py asks of PPO's roles."""

    def __init__(self, setup: TrainingSetup, reward: RewardSetup) -> None:
        self.device, self.scorer = setup.device, reward.scorer or own_scorer(setup)
        self.reward_mean, self.reward_std = reward.mean, reward.std
        self.reward_stop_id = chat.stop_id(setup.tokenizer)

    @torch.no_grad()
    def scores(self, sequences: Sequences) -> Tensor:
        return self.scorer(sequences)


def own_scorer(setup: TrainingSetup) -> Callable[[Sequences], Tensor]:
    """The reward stage's model on the policy's tokens, in the arithmetic that PPO computes in."""
    full = setup.lora is None
    compute_dtype = setup.compute_dtype if full else None
    model = own_reward_model(setup.context, setup.tokenizer, trained=full)

    def scores(sequences: Sequences) -> Tensor:
        with computing_in(compute_dtype, setup.device):
            return final_scores(trunk_of(model), getattr(model, models.HEAD), sequences)

    return scores


def reward_function(
    scorer: RolloutReward,
    config: PPOConfig,
    asked: Sequence[EncodedPrompt],
    *,
    pad_id: int,
    stop_ids: Sequence[int],
) -> Callable[..., list[float]]:
    """What TRL calls for the rewards of a rollout: the scores that PPO would maximise.

    `row` is a column of TRL's data set: the place of each prompt in `asked`.
    """

    def score(
        completion_ids: list[Ids],
        row: list[int],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float]:
        samples = [Sample(ids, ids[-1] in stop_ids, []) for ids in completion_ids]
        prompts = [asked[place] for place in row]
        sequences = collate_prompts(prompts, samples, pad_id=pad_id, device=scorer.device)
        scores, raw_scores = ppo.score(cast(Roles, scorer), samples, sequences, config)
        log_metric("reward/score", raw_scores.mean().item())
        return cast(list[float], scores.tolist())

    return score


def plain_generation(stop_ids: Sequence[int], pad_id: int) -> GenerationConfig:
    """Sampling without what a base model's own `generation_config` would add (top-k, penalties).

    TRL sets its own fields of it only; all others would act on the answers, and no trainer knows.
    """
    return GenerationConfig(eos_token_id=list(stop_ids), pad_token_id=pad_id)


def count_positions(model: PreTrainedModel) -> None:
    """Have a model count positions from the mask where TRL does not say them.

    TRL pads prompts on the left, and a model left to itself counts the padding: with absolute
    position embeddings (GPT-2) it would be trained on other probabilities than were sampled.
    """

    def hook(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        mask = kwargs.get("attention_mask")
        if mask is not None and kwargs.get("position_ids") is None:
            kwargs["position_ids"] = position_ids(mask.bool())
        return args, kwargs

    trunk_of(model).register_forward_pre_hook(hook, with_kwargs=True)


def kl_is_zero(setup: TrainingSetup) -> Callable[[Mapping[str, float]], None]:
    """A check of what TRL logs at step 1: before the first update the policy is its reference."""
    name = setup.section_name

    def check(logs: Mapping[str, float]) -> None:
        if abs(kl := logs.get("kl", 0.0)) > KL_AT_START:
            raise ConfigError(
                "{name}: kl={kl:.4g} nats per token at step 1, where the policy still is "
                "its reference; take out of {name}.trainer what makes the two compute "
                "differently",
                name=name,
                kl=kl,
            )

    return check
