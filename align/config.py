"""The recipe: every setting of a run, with its unit, range and the origin of its default.

These classes only describe and check values; align/recipe.py reads them from YAML and the command
line. Paths are relative to the directory the command runs in. Loading this module loads no torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from align.trainer_fields import check_trainer

BEST_OF_N = "best_of_n"
POLICIES = ("base", "sft", "dpo", "ppo", "rloo", "grpo", BEST_OF_N)
"""What can be evaluated, each the work of the stage of that name but for the first and the last."""
ALIGNED = POLICIES[2:-1]
"""Policies that a stage trains from SFT."""
RUN_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]
Names = Annotated[tuple[str, ...], Field(strict=False)]


class Section(BaseModel):
    """Frozen, no unknown keys, no silent conversion (`"3"` is not 3; 3 is a fine float)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ModelSource(Section):
    """Weights with their tokenizer."""

    path: str
    """A local folder, or a hub name together with `revision`."""
    revision: str | None = None
    """Commit or tag on the hub. A hub name without one would not name the same weights twice."""


class ModelConfig(ModelSource):
    """The base model that SFT starts from, and where everything runs."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 on CUDA, float32 on CPU. Type of the arithmetic and of frozen weights; weights
    that are trained are float32 always."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count = 2
    """torch threads on CPU. Results are bit-identical for equal thread counts only."""


class DataSource(Section):
    """One set of rows: a local file, or a hub name together with `revision`."""

    path: str
    revision: str | None = None
    split: str = "train"
    """Split of a hub data set; a local file has none."""
    format: Literal["auto", "messages", "prompt-response", "alpaca", "preference", "hh-rlhf"] = (
        "auto"
    )
    columns: dict[str, str] = Field(default_factory=dict)
    """Our field name → the file's column name, where they differ."""
    max_rows: Count | None = None
    max_bad_rows: Annotated[int, Field(ge=0)] = 0
    """Rows that may be dropped, each one counted and listed; one more and the stage fails."""
    holdout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Fraction of prompts (chosen by a hash of the prompt) kept apart as the part `heldout`."""
    part: Literal["train", "heldout"] = "train"

    @model_validator(mode="after")
    def _heldout_needs_holdout(self) -> Self:
        if self.part == "heldout" and self.holdout == 0.0:
            raise ValueError("part=heldout needs a holdout above 0; add `holdout: 0.2`")
        return self


INHERITED = ("path", "revision", "split", "format", "columns", "holdout", "max_bad_rows")


class DataConfig(Section):
    """What each stage reads. A source may be a bare path, or a mapping.

    A mapping without `path` reads the file of `preferences`: `instructions: {}` trains SFT on the
    chosen responses, `preferences_heldout: {part: heldout}` keeps the held-out prompts apart.
    """

    instructions: DataSource | None = None
    """SFT: messages, prompt and response, or Alpaca rows."""
    preferences: DataSource | None = None
    """Reward model and DPO: prompt, chosen, rejected."""
    preferences_heldout: DataSource | None = None
    """Pairs the reward model is scored on; no stage trains on them."""
    prompts: DataSource | None = None
    """PPO samples responses to these."""
    evaluation: DataSource | None = None
    """Held-out prompts that all policies answer."""

    @model_validator(mode="before")
    @classmethod
    def _fill_sources(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        filled = {k: {"path": v} if isinstance(v, str) else v for k, v in data.items()}
        pairs = filled.get("preferences")
        if isinstance(pairs, dict):
            shared = {key: pairs[key] for key in INHERITED if key in pairs}
            for key, source in list(filled.items()):
                if key not in cls.model_fields or key == "preferences":
                    continue
                if isinstance(source, dict) and "path" not in source:
                    # Without a path to inherit, `preferences` itself is what has to be told.
                    filled[key] = shared | source if "path" in pairs else None
        return filled


class TrackingConfig(Section):
    """Where metrics go besides metrics.jsonl. Changing these never reruns a stage."""

    wandb: Literal["auto", "offline", "off"] = "auto"
    """auto: online when logged in, otherwise offline."""
    project: str = "align"


class LoraSection(Section):
    """Low-rank adapters; a training section without `lora` trains all weights."""

    r: Count = 16
    alpha: Positive = 32.0
    """Scale is alpha / r."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    targets: str | Names = "all-linear"


class TrainerSection(Section):
    """What SFT, reward and DPO have in common: TRL trains them."""

    lora: LoraSection | None = None
    """None: all weights are trained."""
    max_length: Annotated[int, Field(ge=2)] = 512
    """Tokens of prompt and response; longer rows are dropped and counted, never cut."""
    trainer: dict[str, Any] = Field(default_factory=dict)
    """Fields of TRL's configuration class, checked by name (align/trainer_fields.py)."""


class SFTSection(TrainerSection):
    @field_validator("trainer")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        return check_trainer("sft", value)


class RewardSection(TrainerSection):
    @field_validator("trainer")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        return check_trainer("reward", value)


class DPOSection(TrainerSection):
    @field_validator("trainer")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        return check_trainer("dpo", value)


class PeerSection(Section):
    """RLOO and GRPO, trained by TRL on the terms of `ppo`: what `trainer` leaves open is as there.

    Adapters too: a peer trains `ppo.lora` where PPO does (stages/peers.py lists all that is taken).
    """

    trainer: dict[str, Any] = Field(default_factory=dict)
    """Fields of TRL's configuration class, checked by name (align/trainer_fields.py)."""


class RLOOSection(PeerSection):
    @field_validator("trainer")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        return check_trainer("rloo", value)


class GRPOSection(PeerSection):
    @field_validator("trainer")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        return check_trainer("grpo", value)


class PPOConfig(Section):
    """Our own PPO. Defaults: Ouyang 2022 (arXiv:2203.02155), Huang 2024 (arXiv:2403.17031)."""

    lora: LoraSection | None = None
    layout: Literal["auto", "shared", "separate"] = "auto"
    """shared: one base, adapters for the roles; separate: full models. auto: shared with LoRA."""
    reward_model: ModelSource | None = None
    """A trained reward model in place of the reward stage's: a folder, or a hub name with
    `revision`; any architecture, tokenizer and chat template (align/text_scorer.py). RLOO, GRPO and
    the evaluation score with it too, and nothing needs the reward stage."""
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
    value_learning_rate: Positive = 1e-5
    adam_eps: Positive = 1e-5
    lr_schedule: Literal["linear", "constant"] = "linear"
    critic_warmup: Annotated[int, Field(ge=0)] = 0
    """First iterations that train the critic only."""
    critic: Literal["auto", "reward", "zero", "head"] = "auto"
    """Where values come from. reward, zero: weights of the critic's own, which start as the reward
    model, or as the policy with a zero head. head: a zero head on the policy's states, which it
    reads and does not move; it takes no pass of its own, forward or backward.
    auto: reward where it reads the policy's tokens, zero with a ready-made `reward_model`."""
    max_grad_norm: Positive = 1.0
    clip_range: Positive = 0.2
    dual_clip: Annotated[float, Field(gt=1.0)] | None = None
    """Lower bound for negative advantages (Ye 2020, arXiv:1912.09729), usually 3; None: off."""
    value_clip_range: Positive | None = None
    """How far a value may move per update, in standard deviations of the rollout's returns; None:
    no clipping."""
    importance_cap: Positive | None = None
    """Weights each token by π / π_sampler, at most this, where the sampler's arithmetic is not the
    trainer's (bfloat16, vLLM); usually 2 (Yao 2025, "truncated importance sampling"). None: off."""
    gamma: Fraction = 1.0
    gae_lambda: Fraction = 0.95
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
    whiten_rewards: bool = False
    normalise_reward: bool = True
    """Scores are in deviations from the mean over demonstrations (data.instructions): as the reward
    stage measured them, or as PPO measures those of a `reward_model` at its start."""
    reward_clip: Positive | None = None
    temperature: Positive = 1.0
    max_new_tokens: Count = 64
    sampler: Literal["model", "vllm"] = "model"
    """Who samples: the policy itself, or vLLM beside it (CUDA; `pip install 'align[vllm]'`)."""
    vllm_memory: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    """Share of the GPU's memory that vLLM takes for its weights and cache."""
    checkpoint_every: Count = 5
    """Iterations from one checkpoint to the next: at most so many are lost to a crash. Each holds
    the trained weights and Adam's two moments of policy and critic: small with LoRA. Changes no
    result."""
    early_stop_kl: Positive | None = None
    """Nats per token, k3, between the sampling and the updated policy; a step that finds more ends
    the remaining minibatches and epochs of its rollout. None: never.
    On the embedded world the first update reaches 0.06, later ones stay below 0.02."""
    on_alarm: Literal["warn", "stop"] = "warn"
    """What an alarm does (align/alarms.py): a line in the terminal, or the end of the run (exit 4,
    nothing published)."""
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

    @field_validator("reward_model", mode="before")
    @classmethod
    def _bare_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _critic_reads_the_policys_tokens(self) -> Self:
        if self.reward_model is not None and self.critic == "reward":
            raise ValueError(
                "critic=reward: the critic reads the policy's tokens, and reward_model reads "
                "its own; use critic=head, or zero"
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
                    f"{name}={parts} must divide rollout_batch_size={size}; try {fits}"
                )
        if self.missing_eos == "subtract" and self.missing_eos_penalty < 0:
            raise ValueError(
                f"missing_eos_penalty={self.missing_eos_penalty} would be added, not taken off; "
                "with missing_eos=subtract give a positive amount"
            )
        return self


class EvaluateConfig(Section):
    """Held-out prompts answered by each policy."""

    policies: Names = ("base", "sft", "dpo", "ppo")
    """Also rloo, grpo, and best_of_n: SFT's answers, picked by the reward model (no stage)."""
    best_of_n: Count = 8
    """Answers that best_of_n picks one of; it draws n times as many samples as a policy."""
    max_prompts: Count | None = None
    samples_per_prompt: Count = 1
    temperature: NonNegative = 1.0
    """0 is greedy; greedy is reported beside it in any case."""
    max_new_tokens: Count = 64
    batch_size: Count = 64
    bootstrap: Count = 2000
    """Resamples behind each 95 % interval."""
    showcase: Annotated[int, Field(ge=0)] = 12
    """Prompts shown side by side in the report."""

    @field_validator("policies")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in POLICIES:
                raise ValueError(f"policies={name} is not one of {', '.join(POLICIES)}")
        if "sft" not in value or len(set(value)) != len(value):
            raise ValueError("name each policy once, and `sft`: the others are compared with it")
        return value


class Recipe(Section):
    """A whole run. Stages read their own section plus `model`, `seed` and their data."""

    name: Annotated[str, Field(pattern=f"^{RUN_NAME}$")]
    """Name of the run directory under runs/; the recipe's file name when not given."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    model: ModelConfig
    data: DataConfig
    parents: dict[Literal["sft", "reward", "ppo", "dpo", "rloo", "grpo", "evaluate"], str] = Field(
        default_factory=dict
    )
    """Artifacts taken from elsewhere, as `parents.sft=runs/other/sft`."""
    tracking: TrackingConfig = TrackingConfig()
    sft: SFTSection = SFTSection()
    reward: RewardSection = RewardSection()
    ppo: PPOConfig = PPOConfig()
    dpo: DPOSection = DPOSection()
    rloo: RLOOSection = RLOOSection()
    grpo: GRPOSection = GRPOSection()
    evaluate: EvaluateConfig = EvaluateConfig()
