"""RLOO and GRPO: what PPO is measured against, trained by TRL with PPO's settings.

Neither has a critic: an answer is compared with the other answers to its prompt. All else is PPO's:
the SFT policy as start and reference, the prompts as token ids, the whole distribution, the score
(`align.ppo.train.score`), and, where `trainer:` does not say otherwise, the settings of `ppo`.

Source: RLOO, Ahmadian 2024, arXiv:2402.14740; GRPO, Shao 2024, arXiv:2402.03300.
Differs: TRL's defaults in what neither a paper nor `ppo` settles, as GRPO's `loss_type: dapo`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from align.config import PPOConfig
from align.data import EncodedPrompt, load_prompts
from align.messages import tell
from align.runs.contract import StageContext, StageResult

ANSWERS = {"rloo": 4, "grpo": 8}
"""Answers to each prompt: Ahmadian's larger setting; TRL's default. Fewer where a rollout is."""
TERMS = (
    *("lora", "iterations", "rollout_batch_size", "epochs", "minibatches", "micro_batch_size"),
    *("learning_rate", "lr_schedule", "adam_eps", "max_grad_norm", "clip_range", "kl_coef"),
    *("reward_model", "normalise_reward", "reward_clip", "missing_eos", "missing_eos_penalty"),
    *("temperature", "max_new_tokens", "probe_prompts"),
)
"""Settings of `ppo` that hold for its baselines."""
BORROWED = tuple(f"ppo.{name}" for name in TERMS)
"""The same as a stage names them."""


def run_baseline(
    method: str, trainer_class: type[Any], config_class: type[Any], context: StageContext
) -> StageResult:
    config = context.recipe.ppo
    rows = load_prompts(context.recipe.data.given("prompts"), warn=tell)

    from align.models import load as models
    from stages.support import baseline_trainers as baseline
    from stages.support import trl as support
    from stages.support.practice import to_practise
    from stages.support.reward_setup import reward_setup
    from stages.support.training import TrainingSetup

    # 1. Encode the prompts, load the policy and the reward model.
    setup = TrainingSetup.of(context, method)
    reward = reward_setup(setup, rows)
    prompts, held = to_practise(setup, reward)
    policy = setup.load()
    pad_id = setup.tokenizer.pad_token_id
    stop_ids = models.stop_ids(setup.tokenizer, policy)
    scorer = baseline.RolloutReward(setup, reward)
    repeated = enough(prompts, config.rollout_batch_size)

    # 2. Train.
    published = policy.generation_config
    policy.generation_config = baseline.plain_generation(stop_ids, pad_id)
    trainer = support.trainer(
        baseline.with_our_settings(trainer_class),
        config_class,
        setup,
        [{"prompt": prompt.ids, "row": row} for row, prompt in enumerate(repeated)],
        defaults=as_in_ppo(method, config),
        fixed={"temperature": config.temperature, "max_completion_length": config.max_new_tokens},
        model=policy,
        reward_funcs=baseline.reward_function(
            scorer, config, repeated, pad_id=pad_id, stop_ids=stop_ids
        ),
    )
    models.disable_dropout(trainer.model)
    for model in filter(None, (policy, trainer.ref_model)):
        baseline.count_positions(model)
    metrics = support.fit(trainer, setup, check_start=baseline.kl_is_zero(setup))

    # 3. Publish.
    policy.generation_config = published
    setup.publish(trainer.model)
    metrics[f"{method}/data/rows"] = len(rows)
    metrics[f"{method}/data/too_long"] = len(rows) - len(held) - len(prompts)
    return StageResult(metrics, setup.handoff(prompts=[row.messages for row in rows]))


def as_in_ppo(method: str, config: PPOConfig) -> dict[str, Any]:
    """TRL's settings for the rollouts, optimiser steps and limits that PPO has.

    A minibatch is cut into equal micro-batches, and a rollout into whole groups of answers.
    """
    micro = divisor(config.minibatch_size, config.micro_batch_size)
    steps = config.minibatches * config.epochs
    return {
        "num_generations": divisor(config.rollout_batch_size, ANSWERS[method]),
        "generation_batch_size": config.rollout_batch_size,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": config.minibatch_size // micro,
        "num_iterations": config.epochs,
        "max_steps": config.iterations * steps,
        "logging_steps": steps,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.lr_schedule,
        "adam_epsilon": config.adam_eps,
        "max_grad_norm": config.max_grad_norm,
        "epsilon": config.clip_range,
        "beta": config.kl_coef,  # TRL's GRPO has none unless told
    }


def divisor(size: int, most: int) -> int:
    """The largest divisor of `size` that is at most `most`."""
    return max(n for n in range(1, min(size, most) + 1) if size % n == 0)


def enough(prompts: Sequence[EncodedPrompt], count: int) -> list[EncodedPrompt]:
    """The prompts, all repeated until there are `count`: TRL leaves out what fills no rollout."""
    return list(prompts) * math.ceil(count / len(prompts))


def headline(method: str) -> tuple[str, ...]:
    """The metrics of a baseline that are shown live."""
    return (f"{method}/reward/score", f"{method}/train/kl", f"{method}/train/entropy")
