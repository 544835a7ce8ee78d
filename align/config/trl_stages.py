"""Stages that TRL trains: SFT, reward model, DPO, and PPO's baselines RLOO and GRPO."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from align.config.section import Count, Names, Positive, Section
from align.config.trainer_fields import check_trainer


class LoraSection(Section):
    """Low-rank adapters; a training section without `lora` trains all weights."""

    r: Count = 16
    alpha: Positive = 32.0
    """Scale is alpha / r."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    targets: str | Names = "all-linear"


class TRLSection(Section):
    """What all stages that TRL trains have in common."""

    stage: ClassVar[str]
    trainer: dict[str, Any] = Field(default_factory=dict)
    """Fields of TRL's configuration class, checked by name (align/config/trainer_fields.py)."""

    @field_validator("trainer")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        return check_trainer(cls.stage, value)


class TrainerSection(TRLSection):
    """What SFT, reward and DPO have in common."""

    lora: LoraSection | None = None
    """None: all weights are trained."""
    max_length: Annotated[int, Field(ge=2)] = 512
    """Tokens of prompt and response; longer rows are dropped and counted, never cut."""


class SFTSection(TrainerSection):
    stage = "sft"


class RewardSection(TrainerSection):
    stage = "reward"


class DPOSection(TrainerSection):
    stage = "dpo"


class BaselineSection(TRLSection):
    """RLOO and GRPO, trained by TRL: what `trainer` leaves open is as in `ppo`.

    Adapters too: a baseline trains `ppo.lora` where PPO does (stages/baselines.py lists what is
    taken).
    """


class RLOOSection(BaselineSection):
    stage = "rloo"


class GRPOSection(BaselineSection):
    stage = "grpo"
