"""Whether a stage must run: everything that decides its result, compared with what is published.

Nothing here loads torch: settings are hashed as values, files and code by content, libraries by
the version that is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.config import Recipe
from align.messages import say
from align.messages.errors import (
    ConfigError,
    CorruptArtifactError,
    RetryableError,
)
from align.runs.artifacts import Artifact, exists, quarantine, read_artifact
from align.runs.contract import Stage
from align.runs.hashing import HashCache
from align.runs.inputs import contents, stage_inputs
from align.runs.manifest import MANIFEST, changes, check_handoff, fingerprint


@dataclass(frozen=True)
class State:
    """A stage as it stands: what decides its result, its parents, and why it must run, if so."""

    inputs: dict[str, Any]
    parents: dict[str, Artifact]
    reasons: tuple[str, ...]
    artifact: Artifact | None

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.inputs)


def examine(
    stage: Stage, recipe: Recipe, run_dir: Path, cache: HashCache, *, force: bool = False
) -> State:
    """Compare what a stage would be made from with what its published artifact was made from.

    A damaged artifact of this stage goes to quarantine and the stage runs again; a damaged or
    mismatched parent is an error.
    """
    parents = find_parents(stage, recipe, run_dir, cache)
    check_handoff(
        {name: parent.manifest for name, parent in parents.items()},
        {name: parent.path for name, parent in parents.items()},
    )
    inputs = stage_inputs(stage, recipe, parents, cache)
    target = run_dir / stage.name
    if not exists(target):
        return State(inputs, parents, (say("first run"),), None)
    try:
        artifact = read_artifact(target, cache)
    except CorruptArtifactError as error:
        place = quarantine(target, str(error))
        return State(
            inputs, parents, (say("{error}; moved to {place}", error=error, place=place),), None
        )
    reasons = changes(artifact.manifest.inputs, inputs) or (["force=true"] if force else [])
    return State(inputs, parents, tuple(reasons), artifact)


class Reading:
    """What a stage reads while it starts: it has to be what its inputs were hashed from.

    Every byte is hashed once more, whatever is remembered, now that it is about to be used; from
    then on no file may change until it has been read.
    """

    def __init__(self, stage: Stage, recipe: Recipe, run_dir: Path, state: State) -> None:
        self._stage, self._recipe, self._run_dir, self._state = stage, recipe, run_dir, state
        self._cache = HashCache()
        self._compare(data=True)

    def confirm(self, *, data: bool = True) -> None:
        """Refuse what changed, also what is by now as it was.

        Args:
            data: whether the rows count; they are read once, at the start.

        Raises:
            RetryableError: naming what changed.
        """
        sources = filter(None, self._stage.data(self._recipe).values())
        rows = {Path(source.path).resolve() for source in sources}
        for path in self._cache.changed():
            if data or path.resolve() not in rows:
                self._refuse(str(path))
        self._compare(data=data)

    def _compare(self, *, data: bool) -> None:
        parents = find_parents(self._stage, self._recipe, self._run_dir, self._cache)
        found = contents(self._stage, self._recipe, parents, self._cache)
        told = [
            name
            for name, hashed in sorted(found.items())
            if self._state.inputs.get(name) != hashed and (data or not name.startswith("data."))
        ]
        if told:
            self._refuse(", ".join(told[:3]))

    def _refuse(self, what: str) -> None:
        raise RetryableError(
            "{stage}: {what} changed while the stage was reading it; run the same command again",
            stage=self._stage.name,
            what=what,
        )


def find_parents(
    stage: Stage, recipe: Recipe, run_dir: Path, cache: HashCache
) -> dict[str, Artifact]:
    """Return the verified artifacts that a stage builds on, by the name of their stage."""
    return {name: find_parent(name, recipe, run_dir, cache) for name in stage.parent_names(recipe)}


def find_parent(name: str, recipe: Recipe, run_dir: Path, cache: HashCache) -> Artifact:
    """Return the verified artifact that a stage builds on, of this run or of another one."""
    given = recipe.parents.get(name)  # type: ignore[call-overload]
    place = Path(given) if given else run_dir / name
    if not exists(place / MANIFEST):
        raise ConfigError(
            "{place}: no {name} artifact here; run `make {name}` first, or give "
            "parents.{name}=FOLDER of another run",
            place=place,
            name=name,
        )
    try:
        artifact = read_artifact(place, cache)
    except CorruptArtifactError as error:
        if given:
            raise CorruptArtifactError(
                "{error}; give another parents.{name}=FOLDER", error=error, name=name
            ) from None
        shelf = quarantine(place, str(error))
        raise CorruptArtifactError(
            "{error}; moved to {shelf}, run `make {name}` to make it anew",
            error=error,
            shelf=shelf,
            name=name,
        ) from None
    if artifact.manifest.stage != name:
        raise ConfigError(
            "parents.{name}={place}: holds the stage {stage}; give the folder of a {name} stage",
            name=name,
            place=place,
            stage=artifact.manifest.stage,
        )
    return artifact
