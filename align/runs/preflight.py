"""What is known of a whole run before its first stage: everything that it reads is there.

Loads nothing heavy and reads no rows, so that it costs nothing where all is up to date.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from align.config import Recipe
from align.messages.errors import UserError
from align.runs.contract import Stage
from align.runs.freshness import find_parent
from align.runs.hashing import HASHES, HashCache
from align.runs.inputs import local_path, model_identity, required


def check_sources(stages: Sequence[Stage], recipe: Recipe, run_dir: Path) -> None:
    """Refuse a recipe that lacks a source, a model or a given artifact of any of these stages.

    Raises:
        UserError: with a line for each thing that is missing, in the order of the stages.
    """
    cache = HashCache(run_dir / HASHES)
    problems: dict[str, UserError] = {}
    for stage in stages:
        for name, source in stage.data(recipe).items():
            try:
                local_path(name, required(stage, name, source))
            except UserError as error:
                problems.setdefault(f"data.{name}", error)
        for name, model in stage.all_models(recipe).items():
            try:
                model_identity(name, model, cache)
            except UserError as error:
                problems.setdefault(name, error)
        for name in stage.parent_names(recipe):
            if name in recipe.parents:
                try:
                    find_parent(name, recipe, run_dir, cache)
                except UserError as error:
                    problems.setdefault(f"parents.{name}", error)
    cache.save()
    if problems:
        kind = type(next(iter(problems.values())))
        raise kind("\n".join(error.told() for error in problems.values()))
