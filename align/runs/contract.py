"""What a stage is: a name, what it reads, and one function that fills a folder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from align.config import DataSource, ModelSource, Recipe
from align.runs.artifacts import Artifact
from align.runs.checkpoints import Checkpoints
from align.runs.tracking import Tracker


class Confirm(Protocol):
    """Refuse inputs that are no longer those that were hashed."""

    def __call__(self, *, data: bool = True) -> None: ...


def _nothing_to_confirm(*, data: bool = True) -> None:
    """Of a stage that no runner runs."""


@dataclass
class StageContext:
    """What the runner hands to a stage."""

    recipe: Recipe
    out: Path
    """A fresh folder; what is in it when `run` returns is published as the artifact."""
    parents: dict[str, Artifact]
    tracker: Tracker
    seed: int
    checkpoints: Checkpoints | None = None
    """Where a stage that can be taken up again saves its way; None for the others."""
    confirm: Confirm = _nothing_to_confirm
    """To be called when something was read and before it is used for long: refuses what has
    changed since it was hashed. `data=False`: the rows were read long ago and count no more."""


@dataclass
class StageResult:
    """What a stage hands back."""

    metrics: dict[str, Any] = field(default_factory=dict)
    handoff: dict[str, Any] = field(default_factory=dict)
    """Fields of `align.runs.manifest.Handoff`."""


def _no_data(recipe: Recipe) -> dict[str, DataSource | None]:
    return {}


def _no_models(recipe: Recipe) -> dict[str, ModelSource]:
    return {}


@dataclass(frozen=True)
class Stage:
    """One step of the chain. `run` imports the heavy libraries, so that asking costs nothing."""

    name: str
    run: Callable[[StageContext], StageResult]
    section: str | None = None
    """Section of the recipe that the stage reads, besides `model` and `seed`."""
    parents: tuple[str, ...] | Callable[[Recipe], tuple[str, ...]] = ()
    data: Callable[[Recipe], dict[str, DataSource | None]] = _no_data
    """Sources by their key under `data`; None where the recipe lacks one."""
    models: Callable[[Recipe], dict[str, ModelSource]] = _no_models
    """External models by their key in the recipe, besides `model`."""
    headline: tuple[str, ...] = ()
    """Metric keys shown live."""
    resumes: bool = False
    """Whether the stage can be taken up again in the middle: it is then given checkpoints."""
    text: str | None = None
    """A text file of the artifact, printed when the stage was asked for by name."""
    in_words: bool = False
    """Whether the artifact is written in the reader's language, and so made again in another."""
    unread: tuple[str, ...] = ()
    """Settings of its section that change nothing in what it makes."""
    borrowed: tuple[str, ...] = ()
    """Single settings of other sections that the stage reads too, as `ppo.temperature`."""

    @property
    def sections(self) -> set[str]:
        """Sections of the recipe that it reads, if only a setting of one."""
        return {key.partition(".")[0] for key in (self.section, *self.borrowed) if key}

    def all_models(self, recipe: Recipe) -> dict[str, ModelSource]:
        """The recipe's model and the external ones, by their key."""
        return {"model": recipe.model, **self.models(recipe)}

    @property
    def module(self) -> str:
        """Dotted name of the file that defines `run`, also when that file is being run."""
        name = self.run.__module__
        spec = sys.modules["__main__"].__spec__ if name == "__main__" else None
        return spec.name if spec is not None else name

    def parent_names(self, recipe: Recipe) -> tuple[str, ...]:
        return self.parents(recipe) if callable(self.parents) else self.parents
