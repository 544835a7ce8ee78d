"""Where scores come from: the reward stage, or an external reward model (`ppo.reward_model`).

PPO, its baselines and the evaluation ask the same one. Loads no heavy library: what a stage needs
is asked also when nothing is to be done.
"""

from __future__ import annotations

from align.config import DataSource, ModelSource, Recipe

KEY = "ppo.reward_model"
NORMALISED_OVER = 1000
"""Demonstrations over which mean and standard deviation of the score are taken."""


def parents(recipe: Recipe) -> tuple[str, ...]:
    """The SFT policy, and the reward stage where it is the one that scores."""
    return ("sft",) if recipe.ppo.reward_model is not None else ("sft", "reward")


def stages_ahead(recipe: Recipe) -> list[str]:
    """SFT, and the reward stage where the recipe has data for it and names no other judge."""
    reward = "reward" in parents(recipe) and "reward" not in recipe.parents
    return ["sft", "reward"] if reward and recipe.data.preferences is not None else ["sft"]


def external_models(recipe: Recipe) -> dict[str, ModelSource]:
    """The reward model that the recipe names, by its key."""
    model = recipe.ppo.reward_model
    return {} if model is None else {KEY: model}


def data(recipe: Recipe) -> dict[str, DataSource | None]:
    """Prompts, and the demonstrations over which an external model's scores are normalised."""
    sources = {"prompts": recipe.data.prompts}
    if recipe.ppo.reward_model is not None and recipe.ppo.normalise_reward:
        sources["instructions"] = recipe.data.instructions
    return sources
