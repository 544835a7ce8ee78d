"""PPO, trained by this project: its sizes, its objective, what it watches and saves."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from align.config.section import Count, Fraction, NonNegative, Positive, Section
from align.config.sources import RewardSource
from align.config.trl_stages import LoraSection
from align.messages import say


class PPOConfig(Section):
    """Our own PPO. Defaults: Ouyang 2022 (arXiv:2203.02155), Huang 2024 (arXiv:2403.17031)."""

    lora: LoraSection | None = None
    """Adapters of policy and critic; null: all weights are trained."""
    layout: Literal["auto", "shared", "separate"] = "auto"
    """shared: one base, adapters for the roles; separate: full models. auto: shared with LoRA."""
    reward_model: RewardSource | None = None
    """What scores in place of the reward stage's model: a folder, or a hub name with `revision`, of
    any architecture, tokenizer and chat template (align/scoring/text_scorer.py); or a Python file
    of yours. RLOO, GRPO and the evaluation score with it too; nothing needs the reward stage."""
    iterations: Count = 100
    """Rollout-and-update rounds."""
    rollout_batch_size: Count = 64
    """Episodes of one iteration."""
    responses_per_prompt: Count = 1
    """Episodes of one prompt, which share the prompt's pass; must divide rollout_batch_size."""
    epochs: Count = 1
    """Passes over each rollout. Four minibatches once cost half of two minibatches twice and learnt
    as much (CHANGELOG); Huang 2024 passes four times."""
    minibatches: Count = 4
    """Optimiser steps per epoch; must divide rollout_batch_size."""
    micro_batch_size: Count = 16
    """Episodes per forward pass; gradients accumulate exactly over a minibatch."""
    micro_batch_tokens: Count | None = None
    """Instead: tokens per forward pass, prompts, responses and padding (rows × the longest), so
    that a pass takes many short episodes or a few long ones. Changes rounding only."""
    learning_rate: Positive = 1e-5
    """Of the policy, at the first iteration (Adam)."""
    value_learning_rate: Positive = 1e-5
    """Of the critic, at the first iteration (Adam)."""
    adam_eps: Positive = 1e-5
    """Adam's ε (Huang 2024)."""
    lr_schedule: Literal["linear", "constant"] = "linear"
    """linear: both learning rates fall to 0 over the iterations."""
    critic_warmup: Annotated[int, Field(ge=0)] = 0
    """First iterations that train the critic only."""
    critic: Literal["auto", "reward", "zero", "head"] = "auto"
    """Where values come from. reward, zero: weights of the critic's own, which start as the reward
    model, or as the policy with a zero head. head: a zero head on the policy's states, which it
    reads and does not move; it takes no pass of its own, forward or backward, and wants
    gae_lambda=1 (docs/ppo.md).
    auto: reward where it reads the policy's tokens, zero with an external `reward_model`."""
    max_grad_norm: Positive = 1.0
    """Gradients are scaled down to this norm, policy and critic each."""
    clip_range: Positive = 0.2
    """ε of PPO's objective: the ratio π / π_old counts within 1 ± ε (Schulman 2017)."""
    dual_clip: Annotated[float, Field(gt=1.0)] | None = None
    """Lower bound for negative advantages (Ye 2020, arXiv:1912.09729), usually 3; null: off."""
    value_clip_range: Positive | None = None
    """How far a value may move per update, in standard deviations of the rollout's returns; null:
    no clipping."""
    importance_cap: Positive | None = None
    """Weights each token by π / π_sampler, at most this, where the sampler's arithmetic is not the
    trainer's (bfloat16, vLLM); usually 2 (Yao 2025, "truncated importance sampling"). null: off."""
    gamma: Fraction = 1.0
    """Discount per token."""
    gae_lambda: Fraction = 0.95
    """λ of GAE: 1 trusts the returns, less trusts the critic."""
    kl_coef: NonNegative = 0.05
    """Reward per nat of KL(policy‖reference)."""
    kl_target: Positive | None = None
    """Nats per sequence; when set, kl_coef adapts (Ziegler 2019, arXiv:1909.08593)."""
    kl_horizon: Count = 10_000
    """Episodes over which an adaptive kl_coef responds."""
    missing_eos: Literal["replace", "subtract"] = "replace"
    """A response that never stops has its score replaced by, or reduced by, the penalty."""
    missing_eos_penalty: float = -1.0
    """replace: this score (after normalisation); subtract: the amount taken off."""
    whiten_advantages: bool = True
    """Advantages of a rollout get mean 0 and standard deviation 1."""
    whiten_rewards: bool = False
    """Rewards of a rollout get standard deviation 1."""
    normalise_reward: bool = True
    """Scores are in standard deviations from the mean over demonstrations (data.instructions): as
    the reward stage measured them, or as PPO measures those of a `reward_model` at its start."""
    reward_clip: Positive | None = None
    """Scores are cut at ± this; null: not."""
    temperature: Positive = 1.0
    """Of sampling, and of the log-probabilities that are trained."""
    max_new_tokens: Count = 64
    """Tokens of a response, at most."""
    sampler: Literal["model", "vllm"] = "model"
    """Who samples: the policy itself, or vLLM beside it (CUDA; `pip install -e '.[vllm]'`)."""
    vllm_memory: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    """Share of the GPU's memory that vLLM takes for its weights and cache."""
    checkpoint_every: Count | None = 5
    """Iterations from one checkpoint to the next: at most so many are lost to a crash. Each holds
    the trained weights and Adam's two moments of policy and critic: small with LoRA. Changes no
    result. null: checkpoint_minutes alone counts."""
    checkpoint_minutes: Positive | None = 5.0
    """Minutes after which an iteration is saved, whatever checkpoint_every says. null: never."""
    early_stop_kl: Positive | None = None
    """Nats per token, k3, between the sampling and the updated policy; a step that finds more ends
    the remaining minibatches and epochs of its rollout. null: never.
    On the embedded world the first update reaches 0.06, later ones stay below 0.02."""
    on_alarm: Literal["warn", "stop"] = "warn"
    """What an alarm does (align/ppo/alarms.py): a line in the terminal, or the end of the run
    (exit 4, nothing published)."""
    probe_prompts: Annotated[int, Field(ge=0)] = 64
    """Prompts with checks that are held back from training, at most a tenth of all, and answered
    greedily now and then: does the rule judge agree that things get better? 0: none."""
    probe_every: Count = 5
    """Iterations between two probes."""

    @property
    def prompts_per_rollout(self) -> int:
        """Prompts of one iteration."""
        return self.rollout_batch_size // self.responses_per_prompt

    @property
    def minibatch_size(self) -> int:
        """Episodes of one optimiser step."""
        return self.rollout_batch_size // self.minibatches

    @property
    def policy_loss(self) -> dict[str, Any]:
        """What the recipe says to `ppo_policy_loss` (align/maths/losses.py), by argument."""
        return {"clip_range": self.clip_range, "dual_clip": self.dual_clip}

    def value_loss(self, returns_std: float) -> dict[str, Any]:
        """What the recipe says to `ppo_value_loss`, by argument, in units of the return.

        A bound is set as a share of the standard deviation of the rollout's returns: in absolute
        units one setting would bind or not by the reward's scale.
        """
        bound = self.value_clip_range
        return {"value_clip_range": None if bound is None else bound * returns_std}

    @field_validator("reward_model", mode="before")
    @classmethod
    def _bare_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _critic_reads_the_policys_tokens(self) -> Self:
        if self.reward_model is not None and self.critic == "reward":
            raise ValueError(
                say(
                    "critic=reward: the critic reads the policy's tokens, and reward_model reads "
                    "its own; use critic=head, or zero"
                )
            )
        return self

    @model_validator(mode="after")
    def _an_adaptive_coefficient_can_move(self) -> Self:
        if self.kl_target is not None and self.kl_coef == 0:
            raise ValueError(
                say(
                    "kl_coef=0 stays 0 with kl_target={kl_target}, which multiplies it; give "
                    "kl_coef a positive start, or leave kl_target out",
                    kl_target=self.kl_target,
                )
            )
        return self

    @model_validator(mode="after")
    def _sizes_divide(self) -> Self:
        size = self.rollout_batch_size
        for name in ("minibatches", "responses_per_prompt"):
            parts = getattr(self, name)
            if size % parts:
                fits = max(n for n in range(1, parts) if size % n == 0)
                raise ValueError(
                    say(
                        "{name}={parts} must divide rollout_batch_size={size}; try {fits}",
                        name=name,
                        parts=parts,
                        size=size,
                        fits=fits,
                    )
                )
        if self.missing_eos == "subtract" and self.missing_eos_penalty < 0:
            raise ValueError(
                say(
                    "missing_eos_penalty={penalty} would be added, not taken off; with "
                    "missing_eos=subtract give a positive amount",
                    penalty=self.missing_eos_penalty,
                )
            )
        return self
