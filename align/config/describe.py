"""Every setting of a recipe with its type, default and meaning, read from the classes themselves.

    python -m align.config.describe > docs/settings.md

A setting's meaning is the string below its field, so that it is written once; a test holds the page
equal to what this prints.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import annotated_types
from pydantic_core import PydanticUndefined

from align.config import Recipe
from align.config.section import Section

HEAD = """\
# All settings

Written by `python -m align.config.describe > docs/settings.md`; a test holds it equal to the code.
How a value is given: [Recipes](recipes.md). `null` means none.
"""
WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}
SIGNS = {
    annotated_types.Ge: ("ge", "≥"),
    annotated_types.Gt: ("gt", ">"),
    annotated_types.Le: ("le", "≤"),
    annotated_types.Lt: ("lt", "<"),
}
COUNTABLE = 2**31
"""Upper bounds from here on are the machine's, not the setting's."""


class Setting(NamedTuple):
    """One key of a section, as a person reads it."""

    key: str
    kind: str
    default: str
    meaning: str


def sections() -> dict[str, type[Section]]:
    """Return {title: class} in the order of the recipe; stages that share a class share a title."""
    names: dict[type[Section], list[str]] = {Recipe: ["top of the recipe"]}
    inner: dict[type[Section], list[str]] = {}
    for key, field in Recipe.model_fields.items():
        for found in _sections_in(field.annotation):
            names.setdefault(found, []).append(key)
            for nested_key, nested in found.model_fields.items():
                for below in _sections_in(nested.annotation):
                    inner.setdefault(below, []).append(nested_key)
    names |= {below: list(dict.fromkeys(keys)) for below, keys in inner.items()}
    return {", ".join(keys): found for found, keys in names.items()}


def settings(section: type[Section]) -> list[Setting]:
    """Return every key of a section that holds a value; sections within it are their own."""
    meanings = _meanings(section)
    return [
        Setting(
            key,
            _kind(field.annotation, field.metadata),
            _default(field),
            meanings.get(key, ""),
        )
        for key, field in section.model_fields.items()
        if section is not Recipe or not _sections_in(field.annotation)
    ]


def page() -> str:
    """The page docs/settings.md."""
    parts = [HEAD]
    for title, section in sections().items():
        told = inspect.cleandoc(section.__doc__ or "").split("\n\n")[0].replace("\n", " ")
        rows = [
            f"| `{s.key}` | {_cell(s.kind)} | {_cell(s.default)} | {_cell(s.meaning)} |"
            for s in settings(section)
        ]
        head = [
            f"## {title}",
            "",
            told,
            "",
            "| key | type | default | meaning |",
            "|---|---|---|---|",
        ]
        parts.append("\n".join([*head, *rows]) + "\n")
    return "\n".join(parts)


def _sections_in(annotation: Any) -> list[type[Section]]:
    """Sections that a field holds, as in `LoraSection | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType):
        return [found for part in get_args(annotation) for found in _sections_in(part)]
    return []


def _kind(annotation: Any, metadata: Any = ()) -> str:
    """Say a type and its range in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(parts[0], _flat(parts[1:]))
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in parts)
    if origin in (Union, types.UnionType):
        told = [_kind(part) for part in parts if part is not types.NoneType]
        return " or ".join([*told, "null"] if types.NoneType in parts else told)
    if origin is tuple:
        return "list of names"
    if origin is dict:
        return "mapping"
    if found := _sections_in(annotation):
        return "section" if found[0].__name__ != "DataSource" else "data source"
    bounds = [bound for each in _flat(metadata) if (bound := _bound(each))]
    return " ".join([WORDS.get(annotation, annotation.__name__), ", ".join(bounds)]).strip()


def _flat(metadata: Any) -> list[Any]:
    """Constraints one by one: a pydantic Field holds several in its own metadata."""
    return [one for each in metadata for one in getattr(each, "metadata", [each])]


def _bound(constraint: Any) -> str:
    name, sign = SIGNS.get(type(constraint), ("", ""))
    value = getattr(constraint, name) if name else COUNTABLE
    return f"{sign} {value:g}" if value < COUNTABLE else ""


def _default(field: Any) -> str:
    if field.default_factory is not None:
        return "`{}`"
    if field.default is PydanticUndefined:
        return "required"
    value = field.default
    if isinstance(value, bool) or value is None:
        return f"`{str(value).lower() if value is not None else 'null'}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(value)}]`"
    return f"`{value}`"


def _meanings(section: type[Section]) -> Mapping[str, str]:
    """Return {field: the string below it}, those of base classes first."""
    found: dict[str, str] = {}
    for base in reversed(section.__mro__):
        if issubclass(base, Section) and base is not Section:
            found |= _strings_of(Path(inspect.getfile(base)), base.__name__)
    return found


@functools.cache
def _strings_of(path: Path, class_name: str) -> dict[str, str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            return dict(_strings(node))
    raise LookupError(f"{path}: no class {class_name}")


def _strings(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for item, below in zip(node.body, node.body[1:], strict=False):
        match item, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                value=ast.Constant(value=str(text))
            ):
                yield name, " ".join(text.split())


def _cell(text: str) -> str:
    return re.sub(r"\|", r"\\|", text)


if __name__ == "__main__":
    sys.stdout.write(page())
