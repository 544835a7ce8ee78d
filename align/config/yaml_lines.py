"""YAML that remembers where each key stands.

Differs from PyYAML's safe_load: `1e-4` is a number, `no` and `off` are words (only `true` and
`false` are booleans), a key given twice is a problem, anchors and aliases are refused.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from align.messages import one_line, say
from align.messages.errors import ConfigError, fault

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a configuration: where it stands and what to do about it."""

    place: str
    message: str
    line: int = 0

    def __str__(self) -> str:
        return one_line(f"{self.place}: {self.message}")


@dataclass
class Document:
    """A parsed mapping, the place (`file:line`) of each key path, and the problems met so far."""

    source: str
    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, line: int, message: str) -> None:
        self.problems.append(Problem(f"{self.source}:{line}", message, line))


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2's core schema only."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 (PyYAML's own attribute)


for _tag, _pattern, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", list("tf")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.inf|\.nan",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^({_pattern})$"), _first
    )


def parse_scalar(text: str) -> Any:
    """Return the value that `key: text` would have in a recipe (`[a, b]` and `{a: 1}` too)."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _other_recipe(path: Path) -> str:
    near = difflib.get_close_matches(path.stem, [file.stem for file in path.parent.glob("*.yaml")])
    if near:
        return say("did you mean `{name}`?", name=path.with_name(f"{near[0]}.yaml"))
    return say("write one with `align new NAME`, or try stages/recipes/tiny.yaml of this project")


def read_yaml(path: Path) -> Document:
    """Parse a recipe file; raise ConfigError when it cannot be read as one mapping at all."""
    source = str(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            "{source}: no such recipe; {suggestion}", source=source, suggestion=_other_recipe(path)
        ) from None
    except OSError as error:
        raise ConfigError(
            "{source}: cannot be read ({reason}); give a recipe file",
            source=source,
            reason=fault(error),
        ) from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ConfigError(
            "{source}:{line}: not UTF-8; save the recipe as UTF-8", source=source, line=line
        ) from None
    return parse_yaml(text, source)


def parse_yaml(text: str, source: str) -> Document:
    """Parse recipe text; duplicate keys and the like are collected in `problems`."""
    document = Document(source)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                document.problem(
                    event.start_mark.line + 1 if event.start_mark else 1,
                    say("anchors and aliases are not read; write the value out"),
                )
        loader = _Loader(text)
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        hint = "; indent with spaces" if "\\t" in str(error.problem) else ""
        raise ConfigError(
            "{source}:{line}: not YAML: {problem}{hint}",
            source=source,
            line=line,
            problem=error.problem,
            hint=hint,
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(
            "{source}: not YAML: {reason}", source=source, reason=str(error).splitlines()[0]
        ) from None
    except RecursionError:
        raise ConfigError(
            "{source}: nested too deeply; a recipe is a few levels of keys", source=source
        ) from None
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(
            "{source}:1: expected `key: value` lines, as in stages/recipes/tiny.yaml", source=source
        )
    if not document.problems:  # an alias may be recursive: build values only without them
        document.data = _build(root, (), document, loader)
    return document


def _build(node: yaml.Node, path: KeyPath, document: Document, loader: _Loader) -> Any:
    """Return the value of a node; note the line of each key under it."""
    document.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*path, i), document, loader) for i, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        try:
            value = loader.construct_object(node)
            if value is None or isinstance(value, str | int | float):
                return value
            raise ValueError(node.tag)  # bytes, a set, a date
        except (yaml.YAMLError, ValueError):
            document.problem(
                node.start_mark.line + 1,
                say("{tag} is not read; write a plain value", tag=node.tag),
            )
            return None
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line, key = key_node.start_mark.line + 1, key_node.value
        if not isinstance(key_node, yaml.ScalarNode):
            document.problem(line, say("a key must be a word; write `key: value`"))
            continue
        if key in mapping:
            first, name = document.lines[(*path, key)], ".".join(map(str, (*path, key)))
            said = say(
                "{name}: given twice (first on line {first}); remove one", name=name, first=first
            )
            document.problem(line, said)
            continue
        document.lines[(*path, key)] = line
        mapping[key] = _build(value_node, (*path, key), document, loader)
    return mapping
