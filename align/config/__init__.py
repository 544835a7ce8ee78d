"""The recipe: every setting of a run, with its unit, range and the origin of its default.

These classes only describe and check values; align/config/recipe.py reads them from YAML and the
command line. Paths are relative to the directory the command runs in. Loading this module loads no
torch.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from align.config.evaluate import EvaluateConfig
from align.config.methods import STAGES, TRAINED, TRL
from align.config.ppo import PPOConfig
from align.config.section import RUN_NAME, Section, composed, suggest
from align.config.sources import DataConfig, DataSource, ModelConfig, ModelSource, RewardSource
from align.config.trainer_fields import check_trainer
from align.config.trl_stages import BaselineSection, LoraSection, TrainerSection, TRLSection
from align.messages import say

__all__ = [
    "RUN_NAME",
    "BaselineSection",
    "DataSource",
    "EvaluateConfig",
    "LoraSection",
    "ModelSource",
    "PPOConfig",
    "Recipe",
    "RewardSource",
    "TrainerSection",
    "composed",
]


class TrackingConfig(Section):
    """Where metrics go besides metrics.jsonl. Changing these never reruns a stage."""

    wandb: Literal["auto", "offline", "off"] = "auto"
    """auto: online when logged in, otherwise offline; off: not used."""
    project: str = "align"
    """Project name in wandb."""


PARENTS = tuple(name for name in STAGES if name != "report")


def _a_parent(name: str) -> str:
    if name not in PARENTS:
        raise ValueError(say("unknown key; {suggestion}", suggestion=suggest(name, PARENTS)))
    return name


class Recipe(Section):
    """A whole run. Stages read their own section plus `model`, `seed` and their data."""

    name: Annotated[str, Field(pattern=f"^{RUN_NAME}$"), AfterValidator(composed)]
    """Name of the run directory under runs/; the recipe's file name when not given."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of every random draw: order of rows, samples, bootstrap."""
    model: ModelConfig
    data: DataConfig
    parents: dict[Annotated[str, AfterValidator(_a_parent)], str] = Field(default_factory=dict)
    """Artifacts taken from elsewhere, as `parents.sft=runs/other/sft`."""
    tracking: TrackingConfig = TrackingConfig()
    sft: TrainerSection = TrainerSection()
    reward: TrainerSection = TrainerSection()
    dpo: TrainerSection = TrainerSection()
    kto: TrainerSection = TrainerSection()
    ppo: PPOConfig = PPOConfig()
    rloo: BaselineSection = BaselineSection()
    grpo: BaselineSection = BaselineSection()
    evaluate: EvaluateConfig = EvaluateConfig()

    @property
    def adapters(self) -> dict[str, LoraSection]:
        """All adapters that are trained, by their key."""
        found = {f"{name}.lora": getattr(getattr(self, name), "lora", None) for name in TRAINED}
        return {key: lora for key, lora in found.items() if lora is not None}

    def lora_key(self, stage: str) -> str:
        """The key of what a stage trains in place of all weights; PPO's baselines as PPO does."""
        is_baseline = isinstance(getattr(self, stage, None), BaselineSection)
        return f"{'ppo' if is_baseline else stage}.lora"

    def lora_of(self, stage: str) -> LoraSection | None:
        """The adapters of a stage; None where it trains all weights, or none."""
        return self.adapters.get(self.lora_key(stage))

    @field_validator(*TRL)
    @classmethod
    def _known_to_trl(cls, section: TRLSection, info: ValidationInfo) -> TRLSection:
        """A row of the table of methods that TRL trains has its section here, by the same name."""
        assert info.field_name is not None
        check_trainer(info.field_name, section.trainer)
        return section
