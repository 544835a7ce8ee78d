"""Whether a stage must run: everything that decides its result, compared with what is published.

Nothing here loads torch: settings are hashed as values, files and code by content, libraries by
the version that is installed.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.config import DataSource, ModelSource, Recipe
from align.config.section import suggest
from align.config.sources import TEMPLATES
from align.errors import ConfigError, CorruptArtifactError, DataError, UnlistedFileError
from align.messages import language
from align.runs.artifacts import Artifact, exists, quarantine, read_artifact
from align.runs.contract import Stage
from align.runs.hashing import HashCache, code_files, path_hash
from align.runs.manifest import MANIFEST, changes, check_handoff, fingerprint, flatten

ROOT = Path(__file__).parents[2]
LIBRARIES = ("torch", "transformers", "trl", "peft")
PLUMBING = ("align.errors", "align.messages", "align.config", "align.runs", "stages.pipeline")
"""Code that moves settings and files about but computes no result; the values it carries count."""
SAVING = {"checkpoint_every", "checkpoint_minutes"}
"""Settings of any section that decide when something is saved and change no result."""


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
    parents = {
        name: find_parent(name, recipe, run_dir, cache) for name in stage.parent_names(recipe)
    }
    check_handoff(
        {name: parent.manifest for name, parent in parents.items()},
        {name: parent.path for name, parent in parents.items()},
    )
    inputs = stage_inputs(stage, recipe, parents, cache)
    target = run_dir / stage.name
    if not exists(target):
        return State(inputs, parents, ("first run",), None)
    try:
        artifact = read_artifact(target, cache)
    except UnlistedFileError:  # a whole artifact is not thrown away for a file beside it
        raise
    except CorruptArtifactError as error:
        place = quarantine(target, str(error))
        return State(inputs, parents, (f"{error}; moved to {place}",), None)
    reasons = changes(artifact.manifest.inputs, inputs) or (["force=true"] if force else [])
    return State(inputs, parents, tuple(reasons), artifact)


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
    except UnlistedFileError:
        raise
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


def stage_inputs(
    stage: Stage, recipe: Recipe, parents: dict[str, Artifact], cache: HashCache
) -> dict[str, Any]:
    """Return everything that decides the stage's result, by a name that a person recognises."""
    inputs: dict[str, Any] = {"seed": recipe.seed}
    if stage.section is not None:
        settings = getattr(recipe, stage.section).model_dump(exclude=SAVING)
        inputs |= flatten(settings, stage.section)
    if stage.in_words:
        inputs["language"] = language()
    for key in stage.borrowed:
        section, _, name = key.partition(".")
        inputs |= flatten({name: getattr(recipe, section).model_dump()[name]}, section)
    for name, model in {"model": recipe.model, **stage.models(recipe)}.items():
        inputs |= flatten(model.model_dump(exclude={"path"}), name)
        inputs[f"{name}.path"] = model_identity(name, model, cache)
    if (file := template_file(recipe)) is not None:
        inputs["model.chat_template"] = path_hash(file, cache)
    for name, source in stage.data(recipe).items():
        source = required(stage, name, source)
        inputs |= flatten(source.model_dump(exclude={"path", "max_bad_rows"}), f"data.{name}")
        inputs[f"data.{name}.path"] = source_identity(name, source, cache)
    inputs |= {f"parents.{name}": parent.manifest.fingerprint for name, parent in parents.items()}
    inputs |= code_files(stage.module, root=ROOT, cache=cache, plumbing=PLUMBING)
    inputs |= library_versions()
    return inputs


def model_identity(name: str, model: ModelSource, cache: HashCache) -> str:
    """Return the content hash of a local model, or the name of a pinned one on the hub."""
    if model.revision is not None:
        return model.path
    if not model.is_local:
        raise ConfigError(
            "{name}.path={path}: no such folder or GGUF file; give a local model, or a hub "
            "name together with {name}.revision",
            name=name,
            path=model.path,
        )
    return path_hash(Path(model.path), cache)


def required(stage: Stage, name: str, source: DataSource | None) -> DataSource:
    """Return a source that the stage reads; refuse a recipe without it."""
    if source is None:
        raise ConfigError(
            "data.{name}: missing, and {stage} needs it; add it to the recipe, or give "
            "data.{name}.path=FILE",
            name=name,
            stage=stage.name,
        )
    return source


def template_file(recipe: Recipe) -> Path | None:
    """Return the file that `model.chat_template` names, or None where it names no file."""
    file = recipe.model.template_file
    if file is not None and not file.is_file():
        raise ConfigError(
            "model.chat_template={file}: no such template and no such file; {suggestion}",
            file=file,
            suggestion=suggest(str(file), TEMPLATES),
        )
    return file


def source_identity(name: str, source: DataSource, cache: HashCache) -> str:
    """Return the content hash of a local file, or the name of a pinned data set on the hub."""
    path = local_path(name, source)
    return source.path if path is None else path_hash(path, cache)


def local_path(name: str, source: DataSource) -> Path | None:
    """Return the file or folder of a source, or None for a data set on the hub."""
    if source.revision is not None:
        return None
    path = Path(source.path)
    if not path.exists():
        raise DataError(
            "data.{name}.path={path}: no such file; give a file, or a hub name "
            "together with data.{name}.revision",
            name=name,
            path=source.path,
        )
    return path


@functools.cache
def library_versions() -> dict[str, str]:
    """Return the installed versions that can change a result, without importing anything."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[f"versions.{name}"] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise ConfigError("{name} is not installed; run `make setup`", name=name) from None
    return versions


def write_dependencies(
    stage: Stage, recipe_path: Path, recipe: Recipe, run_dir: Path, *, overridden: bool
) -> None:
    """Tell make what the stage was made from (as `gcc -MD` does), then mark it as up to date.

    The file is runs/RUN/.deps/STAGE.mk. It asks make to run the stage anyway when the recipe is
    another one than last time, or when last time had `key=value` settings.
    """
    manifest = run_dir / stage.name / MANIFEST
    sources = [source for source in stage.data(recipe).values() if source is not None]
    local = [Path(s.path) for s in sources if s.revision is None]
    code = code_files(stage.module, root=ROOT, cache=HashCache(), plumbing=PLUMBING)
    files = [recipe_path, *local, *(ROOT / name for name in code)]
    files += filter(None, [recipe.model.template_file])
    models = (recipe.model, *stage.models(recipe).values())
    files += [model.witness for model in models if model.revision is None]
    target = _escape(manifest)
    names = list(dict.fromkeys(_escape(path) for path in files))
    wanted = str(recipe_path).replace("$", "$$")
    lines = [
        f"{target}: \\",
        *(f"  {name} \\" for name in names),
        "",
        *(f"{name}:" for name in names),  # a file that is gone is the stage's to complain about
        f'ifneq "$(RECIPE)" "{wanted}"' if not overridden else "ifeq (,)",
        f"{target}: FORCE",
        "endif",
        "",
    ]
    text = "\n".join(lines)
    place = run_dir / ".deps" / f"{stage.name}.mk"
    place.parent.mkdir(exist_ok=True)
    if not place.is_file() or place.read_text(encoding="utf-8") != text:
        place.write_text(text, encoding="utf-8")
    os.utime(manifest)


def _escape(path: Path) -> str:
    """Write a path as make reads it, relative to the directory the command runs in."""
    text = os.path.relpath(path).replace("$", "$$")
    for character in " #:%":
        text = text.replace(character, f"\\{character}")
    return text
