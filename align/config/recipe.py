"""Read a recipe: defaults < YAML file < `key=value`, all problems reported at once.

Each problem is one line, `file:line: key.path: what is wrong; what to do`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from yaml import YAMLError

from align.config import RUN_NAME, Recipe
from align.config.section import suggest
from align.config.trainer_fields import TrainerFieldError
from align.config.yaml_lines import Document, KeyPath, Problem, parse_scalar, read_yaml
from align.messages import Sentence, say
from align.messages.errors import ConfigError


def load_recipe(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    section: str | None = None,
    fallback_name: str = "",
) -> Recipe:
    """Return the checked recipe, or raise one ConfigError that lists every problem.

    Args:
        overrides: `key=value` items; a key is looked up in `section` first, then from the root.
        fallback_name: name of a recipe that has none and whose file name is no run name.
    """
    document = read_yaml(path)
    usable = not fallback_name or re.fullmatch(RUN_NAME, path.stem)
    document.data.setdefault("name", path.stem if usable else fallback_name)
    overridden: set[KeyPath] = set()
    for item in overrides:
        _override(document, item, section, overridden)
    recipe = None
    try:
        recipe = Recipe.model_validate(document.data)
    except ValidationError as error:
        document.problems += _explain(error, document, overridden)
    if document.problems or recipe is None:
        problems = sorted(document.problems, key=lambda problem: problem.line)
        raise ConfigError("\n".join(dict.fromkeys(map(str, problems))))
    return recipe


def split_override(item: str) -> tuple[str, str]:
    """Split `key=value`; raise ConfigError for anything else."""
    key, equals, value = item.partition("=")
    if not equals or not key or any(not part for part in key.split(".")):
        raise ConfigError("command line: {item}: expected key=value, as in seed=1", item=item)
    return key, value


def _override(document: Document, item: str, section: str | None, overridden: set[KeyPath]) -> None:
    key, text = split_override(item)
    try:
        value = parse_scalar(text)
    except (YAMLError, ValueError):
        value = text  # a plain string such as a path with a colon in it
    if isinstance(value, str) and text[:1] not in "'\"":
        value = text  # ` #` starts a comment in a file, not on a command line
    path = tuple(key.split("."))
    if section is not None and _belongs(path[0], _keys(section_of(Recipe, section))):
        path = (section, *path)
    node = document.data
    for part in path[:-1]:
        inner = node.get(part)
        if isinstance(inner, str) and path[0] == "data":  # `preferences: file` is short for a path
            inner = {"path": inner}
        node[part] = inner if isinstance(inner, dict) else {}
        node = node[part]
    node[path[-1]] = value
    overridden.add(path)


def _belongs(key: str, section_keys: Sequence[str]) -> bool:
    """Tell whether a key, perhaps misspelt, is meant for the section rather than the root."""
    if key in section_keys or key in _keys(Recipe):
        return key in section_keys
    near = difflib.get_close_matches(key, [*section_keys, *_keys(Recipe)], n=1)
    return bool(near) and near[0] in section_keys


def _explain(
    error: ValidationError, document: Document, overridden: set[KeyPath]
) -> Iterable[Problem]:
    """Turn pydantic's errors into lines a reader of the recipe understands."""
    explained: set[KeyPath] = set()
    for item in error.errors(include_url=False):
        path = tuple(item["loc"])
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, TrainerFieldError):
            for name, message in cause.problems:
                yield _problem((*path, "trainer", name), message, document, overridden)
            continue
        path = _without_union_tags(path, document.data)
        if path in explained:  # the other members of a union say the same again
            continue
        explained.add(path)
        yield _problem(path, _message(item, path, cause), document, overridden)


def _problem(path: KeyPath, message: str, document: Document, overridden: set[KeyPath]) -> Problem:
    """Place a problem at its key, or at the nearest enclosing key that the file has."""
    name = ".".join(map(str, path))
    new = path not in document.lines
    if any(path[: len(it)] == it or (new and it[: len(path)] == path) for it in overridden):
        return Problem(say("command line"), f"{name}: {message}")
    line = next(
        (document.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in document.lines), 1
    )
    return Problem(f"{document.source}:{line}", f"{name}: {message}", line)


SHOULD = {
    "string_type": Sentence("{key}={value!r}: should be a valid string"),
    "int_type": Sentence("{key}={value!r}: should be a valid integer"),
    "float_type": Sentence("{key}={value!r}: should be a valid number"),
    "bool_type": Sentence("{key}={value!r}: should be a valid boolean"),
    "finite_number": Sentence("{key}={value!r}: should be a finite number"),
    "greater_than": Sentence("{key}={value!r}: should be greater than {bound}"),
    "greater_than_equal": Sentence("{key}={value!r}: should be greater than or equal to {bound}"),
    "less_than": Sentence("{key}={value!r}: should be less than {bound}"),
    "less_than_equal": Sentence("{key}={value!r}: should be less than or equal to {bound}"),
}
"""Kinds of pydantic's errors that say what a value should be."""


def _message(item: Any, path: KeyPath, cause: Any) -> str:
    value, kind = item["input"], item["type"]
    given = {"key": path[-1] if path else "", "value": value}
    match kind:
        case "extra_forbidden":
            suggestion = suggest(str(path[-1]), _keys(_model_at(path[:-1])))
            return say("unknown key; {suggestion}", suggestion=suggestion)
        case "missing":
            key = ".".join(map(str, path))
            return say("missing; add it, or give {key}=VALUE on the command line", key=key)
        case "value_error":
            return str(cause)
        case "dict_type":
            return say("{key}={value!r}: should be a mapping, as {{name: value}}", **given)
        case "tuple_type":
            return say("{key}={value!r}: should be a list, as [one, two]", **given)
        case "model_type":
            keys = ", ".join(_keys(_model_at(path)))
            return say("{value!r} should be a mapping of {keys}", value=value, keys=keys)
        case "literal_error":
            choices = item["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
            suggestion = suggest(str(value), choices.split(", "))
            if item["loc"][-1] == "[key]":
                return say("unknown key; {suggestion}", suggestion=suggestion)
            return f"{path[-1]}={value}; {suggestion}"
        case "string_pattern_mismatch":
            return say("{key}={value}: letters, digits, `.`, `_`, `-`, and no mark first", **given)
        case kind if kind in SHOULD:
            bounds = [b for b in item.get("ctx", {}).values() if isinstance(b, int | float)]
            for bound in bounds:
                given["bound"] = int(bound) if bound == int(bound) else bound
            return SHOULD[kind].said(**given)
        case _:
            return f"{path[-1]}={value!r}: {item['msg'].removeprefix('Input ')}"


def _model_at(path: KeyPath) -> Any:
    """Return the configuration class that stands at a key path, or None for plain values."""
    model: Any = Recipe
    for part in path:
        model = section_of(model, str(part))
    return model


def section_of(model: Any, key: str) -> Any:
    """Return the configuration class that stands at a key of another, or None for a plain value."""
    if model is None or key not in model.model_fields:
        return None
    annotation = model.model_fields[key].annotation
    candidates = (annotation, *get_args(annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _keys(model: Any) -> list[str]:
    return list(model.model_fields) if model is not None else []


def _without_union_tags(path: KeyPath, data: Any) -> KeyPath:
    """Drop what pydantic adds to a path for the members of a union (`targets.str`)."""
    kept: list[str | int] = []
    for index, part in enumerate(path):
        is_last = index == len(path) - 1
        inside = isinstance(data, dict) and (part in data or is_last or not kept)
        inside = inside or (isinstance(data, list) and isinstance(part, int))
        if not inside:
            break
        kept.append(part)
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(part, int) and part < len(data):
            data = data[part]
    return tuple(kept)
