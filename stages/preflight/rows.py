"""Every row that a run will read, read before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from align.config import DataSource, Recipe
from align.data import load_instructions, load_preferences
from align.messages import counted, say
from align.runs.contract import Stage
from align.runs.inputs import local_path
from align.scoring.checks import load_checked_prompts

LOADERS: dict[str, Callable[[DataSource], list[Any]]] = {
    "instructions": load_instructions,
    "preferences": load_preferences,
    "preferences_heldout": load_preferences,
    "prompts": load_checked_prompts,
    "evaluation": load_checked_prompts,
}
Rows = dict[str, list[Any]]
"""Rows by their key under `data`; what lies on the hub is not asked for."""


def read(stages: Sequence[Stage], recipe: Recipe) -> Rows:
    """Read the local files of these stages; a bad row is told now, not in an hour."""
    sources: dict[str, DataSource | None] = {}
    for stage in stages:
        sources |= stage.data(recipe)
    return {
        name: LOADERS[name](source)
        for name, source in counted(sources.items(), say("reading data"))
        if source is not None and local_path(name, source) is not None
    }
