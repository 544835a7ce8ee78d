"""What the methods that align have in common, from their row in the table of methods.

Loads no heavy library: what a stage needs is asked also when nothing is to be done.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from align.config import DataSource, Recipe
from align.config.methods import BY_NAME
from align.runs.contract import Stage, StageContext, StageResult
from stages.support import reward_source


def aligned_stage(
    name: str,
    run: Callable[[StageContext], StageResult],
    *,
    headline: tuple[str, ...],
    borrowed: tuple[str, ...] = (),
) -> Stage:
    """The stage of a method: it builds on SFT and, where it is scored, on the reward model."""
    method = BY_NAME[name]
    common = partial(
        Stage,
        name,
        run,
        section=name,
        headline=headline,
        borrowed=borrowed,
        resumes=True,
    )
    if method.scored:
        return common(
            parents=reward_source.parents,
            data=reward_source.data,
            models=reward_source.external_models,
        )

    def data(recipe: Recipe) -> dict[str, DataSource | None]:
        return {method.data: getattr(recipe.data, method.data)}

    return common(parents=("sft",), data=data)
