"""Everything that decides a stage's result, by name: its fingerprint is the hash of that.

Nothing here loads torch: settings are hashed as values, files and code by content, parents by what
they were made from and by their files, libraries by the version that is installed.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from align.config import DataSource, ModelSource, Recipe
from align.config.section import suggest
from align.config.sources import TEMPLATES, ModelConfig
from align.messages import language
from align.messages.errors import ConfigError, DataError
from align.messages.say import CATALOGUE
from align.runs.artifacts import Artifact
from align.runs.code import code_files
from align.runs.contract import Stage
from align.runs.hashing import HashCache, model_hash, path_hash
from align.runs.manifest import content, content_key, flatten

ROOT = Path(__file__).parents[2]
LIBRARIES = (
    *("torch", "transformers", "trl", "peft", "accelerate", "tokenizers", "datasets"),
    *("numpy", "safetensors", "jinja2"),
)
"""All that compute: what they return may change from one version to the next."""
PLUMBING = ("align.messages", "align.runs", "stages.pipeline")
"""Code that moves settings and files about but computes no result; the values it carries count."""
DECLARATIONS = "align.config"
"""Settings count by their values; what is computed from them counts as code."""
SAVING = {"checkpoint_every", "checkpoint_minutes"}
"""Settings of any section that decide when something is saved and change no result."""
GPU_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""One of them is there where a driver is (Linux, WSL, ROCm); torch is not asked, it is too slow."""


def stage_inputs(
    stage: Stage, recipe: Recipe, parents: dict[str, Artifact], cache: HashCache
) -> dict[str, Any]:
    """Return everything that decides the stage's result, by a name that a person recognises."""
    inputs: dict[str, Any] = {"seed": recipe.seed}
    if stage.section is not None:
        settings = getattr(recipe, stage.section).model_dump(exclude=SAVING | {*stage.unread})
        inputs |= flatten(settings, stage.section)
    for key in stage.borrowed:
        section, _, name = key.partition(".")
        inputs |= flatten({name: getattr(recipe, section).model_dump()[name]}, section)
    for name, model in stage.all_models(recipe).items():
        inputs |= flatten(model.model_dump(exclude={"path"}), name)
    inputs |= machine(recipe.model)
    for name, source in stage.data(recipe).items():
        settings = required(stage, name, source).model_dump(exclude={"path", "max_bad_rows"})
        inputs |= flatten(settings, f"data.{name}")
    if stage.in_words:
        inputs["language"] = language()
        if language() == "ko":
            inputs["align/messages/ko"] = path_hash(CATALOGUE, cache)
    inputs |= contents(stage, recipe, parents, cache)
    inputs |= stage_code(stage, recipe, cache)
    inputs |= library_versions()
    return inputs


def contents(
    stage: Stage, recipe: Recipe, parents: dict[str, Artifact], cache: HashCache
) -> dict[str, str]:
    """Return the hash of everything that a stage reads from disk, its own code apart."""
    found = {}
    for name, model in stage.all_models(recipe).items():
        found[f"{name}.path"] = model_identity(name, model, cache)
    if (file := template_file(recipe)) is not None:
        found["model.chat_template"] = path_hash(file, cache)
    for name, source in stage.data(recipe).items():
        found[f"data.{name}.path"] = source_identity(name, required(stage, name, source), cache)
    for name, parent in parents.items():
        found[f"parents.{name}"] = parent.manifest.fingerprint
        found[content_key(name)] = content(parent.manifest)
    return found


def stage_code(stage: Stage, recipe: Recipe, cache: HashCache) -> dict[str, str]:
    """Return {file: hash} of the code that a stage imports, and of its sections of the recipe."""
    read: list[BaseModel] = [getattr(recipe, name) for name in stage.sections]
    read += stage.all_models(recipe).values()
    read += filter(None, stage.data(recipe).values())
    sections = {cls.__module__ for section in read for cls in type(section).__mro__}
    return code_files(
        [stage.module, *sorted(name for name in sections if name.startswith(DECLARATIONS))],
        root=ROOT,
        cache=cache,
        plumbing=PLUMBING,
        declarations=DECLARATIONS,
    )


def machine(model: ModelConfig) -> dict[str, str]:
    """Return what `auto` of device and dtype comes to here."""
    device, dtype = model.device, model.dtype
    if device == "auto":
        device = "cuda" if has_gpu() else "cpu"
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    return {"model.device": device, "model.dtype": dtype}


def has_gpu() -> bool:
    """Whether torch will find a GPU, by what is installed: a driver, and torch with its libraries.

    Where that is mistaken, `auto` is another input than the device it came to; never the same.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    built = not library_versions()["versions.torch"].endswith("+cpu")
    return built and not hidden and any(Path(file).exists() for file in GPU_FILES)


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
    return model_hash(Path(model.path), cache)


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
