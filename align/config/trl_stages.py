"""Stages that TRL trains: SFT, reward model, DPO, and PPO's peers RLOO and GRPO."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from align.config.base import Count, Names, Positive, Section
from align.trainer_fields import check_trainer


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
