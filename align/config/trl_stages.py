"""Sections of the stages that TRL trains: with rows of their own, or with PPO's settings."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from align.config.section import Count, Names, Positive, Section


class LoraSection(Section):
    """Low-rank adapters; a training section without `lora` trains all weights."""

    r: Count = 16
    """Rank."""
    alpha: Positive = 32.0
    """Scale is alpha / r."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Of the adapter's input while it is trained."""
    targets: str | Names = "all-linear"
    """Names of the layers that get adapters; all-linear: every linear layer but the head."""


class TRLSection(Section):
    """What all stages that TRL trains have in common."""

    trainer: dict[str, Any] = Field(default_factory=dict)
    """Fields of TRL's configuration class, checked by name (align/config/trainer_fields.py)."""
    checkpoint_every: Count | None = None
    """Optimiser steps from one checkpoint to the next; null: checkpoint_minutes alone counts.
    Each holds the trained weights and the optimiser's state: small with LoRA. Changes no result."""
    checkpoint_minutes: Positive | None = 5.0
    """Minutes after which a step is saved: at most so many are lost to a crash. null: never."""


class TrainerSection(TRLSection):
    """A stage that trains on rows of the data: SFT, reward model, DPO, KTO."""

    lora: LoraSection | None = None
    """Adapters; null: all weights are trained."""
    max_length: Annotated[int, Field(ge=2)] = 512
    """Tokens of prompt and response; longer rows are dropped and counted, never cut."""


class BaselineSection(TRLSection):
    """RLOO and GRPO: what `trainer` leaves open is as in `ppo`.

    Adapters too: a baseline trains `ppo.lora` where PPO does (stages/support/baselines.py lists
    what is taken).
    """
