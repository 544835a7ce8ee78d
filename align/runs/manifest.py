"""What a published artifact says about itself, and why a stage would run again.

A manifest is written last and holds the hash of every other file: a folder with a manifest that
verifies is complete, anything else does not exist.
"""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from align.messages import json_text, say
from align.messages.errors import ConfigError, CorruptArtifactError, RetryableError, fault
from align.runs.hashing import value_hash
from align.runs.tracking import METRICS_FILE

MANIFEST = "manifest.json"


class FileRecord(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    size: int


class Handoff(BaseModel):
    """What a stage tells the next ones about its model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["full", "adapter", "none"] = "none"
    """full: only `model/`; adapter: also `adapter/`; none: no model (evaluation, report)."""
    base_model: str | None = None
    """Hash of the weights the model started from."""
    tokenizer_hash: str | None = None
    template_hash: str | None = None
    chat_template: str | None = None
    """Name or file of the template that SFT gave to the model; None: the model's own."""
    template_date: str | None = None
    """What the chat template wrote as today's date, if it asks (align/data/rendering.py)."""
    chosen: dict[str, Any] = Field(default_factory=dict)
    """Fields of `trainer` that the recipe left open, as they were chosen by the number of rows."""
    reward_mean: float | None = None
    reward_std: float | None = None
    """Of the raw score over the demonstrations (data.instructions)."""
    splits: dict[str, str] = Field(default_factory=dict)
    """Hash of the rows used, by data source."""


class Manifest(Handoff):
    stage: str
    status: Literal["complete"] = "complete"
    fingerprint: str
    """Hash of `inputs`."""
    inputs: dict[str, Any]
    """Everything that decides the result, by name: settings as values, contents as hashes."""
    config: dict[str, Any]
    parents: dict[str, str] = Field(default_factory=dict)
    """Fingerprints of the artifacts this one was made from."""
    seed: int
    metrics: dict[str, Any] = Field(default_factory=dict)
    wall_seconds: float = 0.0
    device: str = "cpu"
    cpu: str | None = None
    """Instruction set that torch computed with; another one may round otherwise."""
    computers: list[str] = Field(default_factory=list)
    """What it was computed on, in turn: more than one where it was taken up on another."""
    threads: int = 1
    versions: dict[str, str] = Field(default_factory=dict)
    git_revision: str | None = None
    files: dict[str, FileRecord] = Field(default_factory=dict)


def fingerprint(inputs: dict[str, Any]) -> str:
    """Return the hash of everything that decides a stage's result."""
    return value_hash(inputs)


def content_key(parent: str) -> str:
    """The name under which the content of a parent counts."""
    return f"parents.{parent}.content"


def content(manifest: Manifest) -> str:
    """Return the hash of an artifact's files: made again from the same, they may be others.

    The curve is left out, which says when each of its rows was written.
    """
    return value_hash({n: f.sha256 for n, f in manifest.files.items() if n != METRICS_FILE})


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Name what differs between two `inputs`, settings with both values."""
    told = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if _is_hash(before) or _is_hash(after):
            if name not in old:
                told.append(say("{name} is new", name=name))
            elif name not in new:
                told.append(say("{name} is gone", name=name))
            else:
                told.append(say("{name} changed", name=name))
        else:
            told.append(f"{name} {_as_json(before)} → {_as_json(after)}")
    return told


def earlier_settings(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return the `key=value` items that lead from `new` back to `old`, if settings alone can."""
    names = sorted((old.keys() | new.keys()) - {"language"})  # the reader's, no setting
    changed = [name for name in names if old.get(name) != new.get(name)]
    contents = [*(old.get(name) for name in changed), *(new.get(name) for name in changed)]
    if any(name not in old or name.startswith("versions.") for name in changed) or any(
        map(_is_hash, contents)
    ):
        return []
    return [f"{name}={_as_written(old[name])}" for name in changed]


def how_to_keep(published: Manifest, inputs: dict[str, Any]) -> str | None:
    """Return what a published artifact was made with, where it differs by settings alone."""
    items = " ".join(map(shlex.quote, earlier_settings(published.inputs, inputs)))
    if not items:
        return None
    return say(
        'the published {stage} was made with SET="{items}"; stop and give that to keep it, or '
        "RUN=NAME to make another beside it",
        stage=published.stage,
        items=items,
    )


def _as_written(value: Any) -> str:
    """Spell a setting as on a command line: null, true, [a,b], 1e-05, word."""
    if isinstance(value, list):
        return f"[{','.join(map(_as_written, value))}]"
    return value if isinstance(value, str) else _as_json(value)


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef")


def flatten(settings: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return {"section.key.key": value} for a nested mapping of settings."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}.{key}"
        if isinstance(value, dict):
            flat |= flatten(value, name)
        else:
            flat[name] = list(value) if isinstance(value, tuple) else value
    return flat


def dump_manifest(manifest: Manifest) -> str:
    """Return the manifest as JSON text that carries its own checksum."""
    content = manifest.model_dump(mode="json")
    return json_text(content | {"checksum": value_hash(content)}, indent=2)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Tell apart what is not there, which is damage, from what cannot be read, which may pass."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise CorruptArtifactError("{path}: missing", path=path) from None
    except OSError as error:
        raise RetryableError(
            "{path}: cannot be read ({reason}); nothing was moved: put that right and run again",
            path=path,
            reason=fault(error),
        ) from error


def load_manifest(folder: Path) -> Manifest:
    """Read a manifest; its files are verified by `align.runs.artifacts.read_artifact`."""
    path = folder / MANIFEST
    try:
        with reading(path):
            content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise CorruptArtifactError("{path}: not a manifest", path=path)
        checksum = content.pop("checksum", None)
        if checksum != value_hash(content):
            raise CorruptArtifactError("{path}: altered since it was published", path=path)
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "JSON"
        raise CorruptArtifactError(
            "{path}: {field}: {reason}", path=path, field=field, reason=first["msg"]
        ) from None
    except (ValueError, RecursionError) as error:
        raise CorruptArtifactError(
            "{path}: not a manifest ({error})", path=path, error=error
        ) from None


def check_handoff(parents: dict[str, Manifest], places: dict[str, Path]) -> None:
    """Refuse parents that do not belong together; raise ConfigError naming both.

    All parents must share tokenizer and chat template. Parents other than `sft` must have been
    trained from the `sft` artifact that is given.
    """
    for field, what in (("tokenizer_hash", "tokenizer"), ("template_hash", "chat template")):
        values = {name: getattr(m, field) for name, m in parents.items() if getattr(m, field)}
        for name, value in values.items():
            first = next(iter(values))
            if value != values[first]:
                raise ConfigError(
                    "{what} of {name} ({place}) differs from that of {first} ({other}); train "
                    "both from the same base model, or give parents.{name}=FOLDER of a "
                    "matching one",
                    what=what,
                    name=name,
                    place=places[name],
                    first=first,
                    other=places[first],
                )
    sft = parents.get("sft")
    for name, manifest in parents.items():
        made_from = manifest.inputs.get(content_key("sft"))
        if sft is not None and made_from is not None and made_from != content(sft):
            raise ConfigError(
                "{name} ({place}) was trained from another sft than {sft}; run `make "
                "{name}` again, or give parents.sft=FOLDER of the one it came from",
                name=name,
                place=places[name],
                sft=places["sft"],
            )
