"""The evaluation: which policies answer, how often, and what is said of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from align.config.methods import POLICIES
from align.config.section import Count, Names, NonNegative, Section
from align.messages import say


class EvaluateConfig(Section):
    """Held-out prompts answered by each policy."""

    policies: Names = ("base", "sft", "dpo", "ppo")
    """What is compared, `sft` among them. Also kto, rloo, grpo, and best_of_n: SFT's answers,
    picked by the reward model (no stage)."""
    best_of_n: Count = 8
    """Answers that best_of_n picks one of; it draws n times as many samples as a policy."""
    max_prompts: Count | None = None
    """So many prompts, drawn by the seed; null: all."""
    samples_per_prompt: Count = 1
    """Answers of each policy to a prompt."""
    temperature: NonNegative = 1.0
    """0 is greedy; greedy is reported beside it in any case."""
    max_new_tokens: Count = 64
    """Tokens of an answer, at most."""
    batch_size: Count = 64
    """Answers sampled or scored at a time."""
    bootstrap: Count = 2000
    """Resamples behind each 95 % interval."""
    showcase: Annotated[int, Field(ge=0)] = 12
    """Prompts shown side by side in the report."""

    @field_validator("policies")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in POLICIES:
                raise ValueError(
                    say(
                        "policies={name} is not one of {known}",
                        name=name,
                        known=", ".join(POLICIES),
                    )
                )
        if "sft" not in value or len(set(value)) != len(value):
            raise ValueError(
                say("name each policy once, and `sft`: the others are compared with it")
            )
        return value
