"""The recipe: every setting of a run, with its unit, range and the origin of its default.

These classes only describe and check values; align/config/recipe.py reads them from YAML and the
command line. Paths are relative to the directory the command runs in. Loading this module loads no
torch.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from align.config.evaluate import ALIGNED, BEST_OF_N, POLICIES, EvaluateConfig
from align.config.ppo import PPOConfig
from align.config.section import RUN_NAME, Section
from align.config.sources import DataConfig, DataSource, ModelConfig, ModelSource
from align.config.trl_stages import (
    BaselineSection,
    DPOSection,
    GRPOSection,
    LoraSection,
    RewardSection,
    RLOOSection,
    SFTSection,
    TrainerSection,
)

__all__ = [
    "ALIGNED",
    "BEST_OF_N",
    "POLICIES",
    "RUN_NAME",
    "BaselineSection",
    "DataSource",
    "EvaluateConfig",
    "LoraSection",
    "ModelSource",
    "PPOConfig",
    "Recipe",
    "TrainerSection",
]


class TrackingConfig(Section):
    """Where metrics go besides metrics.jsonl. Changing these never reruns a stage."""

    wandb: Literal["auto", "offline", "off"] = "auto"
    """auto: online when logged in, otherwise offline."""
    project: str = "align"


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
