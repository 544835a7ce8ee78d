"""`align new NAME`: a recipe from a base model and one's own files, checked before it is written.

1 ask for what was not given, on a terminal · 2 read every file · 3 compose the recipe (text:
stages/cli/compose.py) · 4 read it as a run would · 5 write NAME.yaml, which must not exist.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import typer
from pydantic import ValidationError

from align.config import RUN_NAME, DataSource, ModelSource, Recipe
from align.config.yaml_lines import parse_yaml
from align.data import formats, prompt_key
from align.data.files import READABLE, read_rows
from align.messages import Language, tell
from align.messages import language as language_of_reader
from align.messages.errors import ConfigError, DataError, UserError
from align.runs.inputs import ROOT
from stages.cli.compose import FEW_PROMPTS, Plan, compose
from stages.cli.texts import text
from stages.preflight.rows import LOADERS

FILES = ("instructions", "preferences", "prompts")
LARGE = 1_000_000_000
"""Bytes of weights from which adapters are trained if nothing else is said."""
LONGEST = 512
POSITIONS = ("max_position_embeddings", "n_positions", "original_max_position_embeddings")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Options:
    """What was given on the command line; None: not given."""

    base: str | None = None
    revision: str | None = None
    instructions: str | None = None
    preferences: str | None = None
    prompts: str | None = None
    evaluation: str | None = None
    language: str | None = None
    lora: bool | None = None
    device: str | None = None


def new(name: str, options: Options, *, ask: bool) -> int:
    """Write NAME.yaml in the current folder and say what it reads and how to run it."""
    name = name.removesuffix(".yaml")
    path = Path(f"{name}.yaml")
    if not re.fullmatch(RUN_NAME, name):
        raise ConfigError(
            "NAME={name}: names the recipe and its run directory: at most 64 letters, "
            "digits, `.`, `_`, `-`, a letter or digit first; no folders",
            name=name,
        )
    if path.exists():
        raise ConfigError(
            "{path}: exists already and is kept; give another NAME, or remove it", path=path
        )
    language = _language(options.language) if options.language else language_of_reader()
    rows = dict[str, list[Any]]()
    if ask:
        language, options = _asked(language, options, rows)
    plan = _plan(name, language, options, rows)
    content = compose(plan)
    _check(content, path)
    with path.open("x", encoding="utf-8") as file:
        file.write(content)
    tell(text("written", language, path=path, quoted=shlex.quote(str(path))))
    return 0


# ---------------------------------------------------------------------------- questions


def _asked(
    language: Language, given: Options, rows: dict[str, list[Any]]
) -> tuple[Language, Options]:
    """Ask for what was not given; a wrong answer is told, and asked for again.

    Args:
        rows: of each file that is named, by its key, are put there.
    """
    if given.language is None:
        language = _ask("language", language, language, _language)
    base = given.base or _ask("base", language, _embedded("base"), str)
    given = replace(given, base=base)
    if given.revision is None and not Path(base).exists():
        given = replace(given, revision=_ask("revision", language, None, str))
    for key in FILES:
        if getattr(given, key) is None:
            answer = _ask(key, language, "", partial(_file, key, rows))
            given = replace(given, **{key: answer or None})
    if given.lora is None:
        proposed = "lora" if _weights(base) >= LARGE else "full"
        given = replace(given, lora=_ask("lora", language, proposed, _lora))
    if given.device is None:
        given = replace(given, device=_ask("device", language, "auto", _device))
    return language, given


def _ask(key: str, language: Language, default: str | None, read: Callable[[str], Any]) -> Any:
    while True:
        try:
            question = text(f"ask.{key}", language)
            answer = typer.prompt(question, default=default, show_default=bool(default))
        except typer.Abort:  # the end of the input
            tell("")  # the question's line ends
            raise ConfigError("nothing was written: an answer is missing; give options") from None
        try:
            return read(answer.strip())
        except UserError as error:
            tell(error.told())


def _language(typed: str) -> Language:
    return cast(Language, _one_of("language", typed, ("en", "ko")))


def _lora(typed: str) -> bool:
    return _one_of("training", typed, ("lora", "full")) == "lora"


def _device(typed: str) -> str:
    return _one_of("device", typed, DEVICES)


def _one_of(what: str, typed: str, choices: tuple[str, ...]) -> str:
    if typed not in choices:
        raise ConfigError(
            "{what}={typed}: choose {choices}", what=what, typed=typed, choices=", ".join(choices)
        )
    return typed


def _file(key: str, rows: dict[str, list[Any]], typed: str) -> str:
    if typed:
        rows[key] = _rows(key, typed)
    return typed


# ---------------------------------------------------------------------------- what there is


def _plan(name: str, language: Language, options: Options, rows: dict[str, list[Any]]) -> Plan:
    """Read every file that was not read yet; say how many rows of which layout each has."""
    base = options.base or _embedded("base")
    _check_base(base, options.revision)
    weights = _weights(base)
    given = {key: path for key in (*FILES, "evaluation") if (path := getattr(options, key))}
    rows |= {key: _rows(key, path) for key, path in given.items() if key not in rows}
    for key, path in given.items():
        count, layout = len(rows[key]), _layout(path)
        tell(text("found", language, key=key, path=path, rows=count, layout=layout))
    for key in ("instructions", "preferences"):
        if key not in given and "preferences" not in given:
            tell(text("embedded", language, key=key))
    practised = next((key for key in reversed(FILES) if key in rows), None)
    return Plan(
        name=name,
        language=language,
        base=base,
        revision=options.revision,
        weights=weights,
        longest=_longest(base),
        given=given,
        embedded={
            "instructions": _embedded("sft.jsonl"),
            "preferences": _embedded("preferences.jsonl"),
            "preferences_heldout": _embedded("preferences.test.jsonl"),
            "prompts": _embedded("prompts.jsonl"),
            "evaluation": _embedded("evaluation.test.jsonl"),
        },
        lora=weights >= LARGE if options.lora is None else options.lora,
        device=_device(options.device or "auto"),
        shared_prompts=_share_prompts(rows),
        few_prompts=practised is not None and len(rows[practised]) < FEW_PROMPTS,
    )


def _rows(key: str, path: str) -> list[Any]:
    if not Path(path).is_file():
        raise DataError(
            "{key}={path}: no such file; give a file ({kinds}); a data set of the hub "
            "is written into the recipe afterwards, as `{{path: name, revision: "
            "commit, split: train}}`",
            key=key,
            path=path,
            kinds=READABLE.said(),
        )
    return LOADERS[key](DataSource(path=path))


def _layout(path: str) -> str:
    """The layout of the first row; the rows were read before, so it has one."""
    row = next(row for _, row in read_rows(DataSource(path=path)))
    assert isinstance(row, dict)
    return formats.detect(formats.named(row))


def _share_prompts(rows: dict[str, list[Any]]) -> bool:
    """Whether instructions ask what pairs or prompts do: what those hold out is then held out."""
    asked = {key: {prompt_key(row.prompt) for row in its} for key, its in rows.items()}
    others = asked.get("preferences", set()) | asked.get("prompts", set())
    return bool(others & asked.get("instructions", set()))


def _check_base(base: str, revision: str | None) -> None:
    folder = Path(base)
    if ModelSource(path=base).is_file:
        return
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ConfigError(
                "base={base}: has no config.json; give a folder that `save_pretrained` wrote",
                base=base,
            )
    elif revision is None:
        raise ConfigError(
            "base={base}: no such folder or GGUF file; give a local model, or a hub name with "
            "--revision COMMIT",
            base=base,
        )


def _weights(base: str) -> int:
    """Bytes of a local model's weights; one on the hub counts as large."""
    folder = Path(base)
    if not folder.is_dir():  # a GGUF file is small on the disk only
        return LARGE
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _longest(base: str) -> int:
    """Tokens of the longest row: LONGEST, within the positions that a local model has.

    The bounds under any name are taken, also the one before positions were stretched: the model
    reads rows of that length as it was trained to.
    """
    file = Path(base) / "config.json"
    if not file.is_file():
        return LONGEST
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise ConfigError(
            "{file}: not JSON ({error}); give the folder of a model", file=file, error=error
        ) from None
    text_config = content.get("text_config", content)
    bounds = {**text_config, **(text_config.get("rope_parameters") or {})}
    found = [bounds[key] for key in POSITIONS if isinstance(bounds.get(key), int)]
    return min([LONGEST, *found])


def _embedded(name: str) -> str:
    """A file of the embedded world, relative where the command runs at its root."""
    path = ROOT / "data" / "tiny" / name
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _check(content: str, path: Path) -> None:
    """Read the recipe as a run would, and every row by the parts that it names."""
    document = parse_yaml(content, str(path))
    try:
        recipe = Recipe.model_validate(document.data)
    except ValidationError as error:  # nothing a user gave can lead here
        raise AssertionError(f"{path}: a recipe that cannot be read") from error
    for key, load in LOADERS.items():
        source = getattr(recipe.data, key)
        if source is not None:
            load(source)
