"""`align settings`: what align/config/describe.py reads of each key, as text for a terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator

from align.config import Recipe
from align.config.describe import Setting, settings
from align.config.methods import TRL
from align.config.recipe import section_of
from align.config.section import Section, suggest
from align.config.trainer_fields import OURS, trainer_fields
from align.messages import tell
from align.messages.errors import ConfigError

WIDEST = 100
INDENT = " " * 4


def explain(key: str) -> int:
    """Print every setting at `key` and below, wrapped at the terminal's width."""
    width = min(WIDEST, shutil.get_terminal_size().columns)
    for found in find(key):
        default = f", default {found.default}" if found.default else ""
        head = f"{found.key}: {found.kind}{default}".replace("`", "")
        told = found.meaning.replace("`", "")
        tell("\n".join(textwrap.wrap(head, width, subsequent_indent=INDENT)))
        for line in textwrap.wrap(told, width, initial_indent=INDENT, subsequent_indent=INDENT):
            tell(line)
    return 0


def find(key: str = "") -> list[Setting]:
    """Return every setting at this key and below, with its whole key; all of them without one.

    A group of keys that the list has had already is told in one line. `sft.trainer` gives the
    fields of TRL's class that the section passes on.
    """
    name, _, rest = key.partition(".")
    if rest == "trainer" and name in TRL:
        fields = trainer_fields(name).items()
        return [Setting(f"{key}.{n}", told, "TRL's", "") for n, told in fields if n not in OURS]
    section: type[Section] = Recipe
    parts = key.split(".") if key else []
    for number, part in enumerate(parts, start=1):
        if part not in section.model_fields:
            raise ConfigError(
                "{key}: no such setting; {suggestion}",
                key=key,
                suggestion=suggest(part, [*section.model_fields]),
            )
        inner = section_of(section, part)
        if inner is None and number == len(parts):
            return [s._replace(key=key) for s in settings(section) if s.key == part]
        if inner is None:
            raise ConfigError(
                "{key}: no such setting; {parent} has no parts",
                key=key,
                parent=".".join(parts[:number]),
            )
        section = inner
    return list(_under(section, f"{key}." if key else "", {}))


def _under(
    section: type[Section], prefix: str, told: dict[type[Section], str]
) -> Iterator[Setting]:
    values = {found.key: found for found in settings(section)}
    for name in section.model_fields:
        key, inner = f"{prefix}{name}", section_of(section, name)
        if inner is None:
            yield values[name]._replace(key=key)
            continue
        meaning = values[name].meaning if name in values else ""
        default = values[name].default if name in values else ""
        if inner in told:
            yield Setting(key, "section", default, f"{meaning} Keys as in {told[inner]}.".strip())
            continue
        told[inner] = key
        summary = " ".join((inner.__doc__ or "").partition("\n\n")[0].split())
        yield Setting(key, "section", default, meaning or summary)
        yield from _under(inner, f"{key}.", told)
