"""A sentence with its values, in the language of the reader.

The English sentence is written where it is said and is the key of its translation, as in gettext.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from align.messages.language import language
from align.messages.visible import harmless

CATALOGUE = Path(__file__).with_name("ko")
"""A file for each folder whose code speaks."""


def say(sentence: str, /, **values: object) -> str:
    """`say("{path}: no such file", path=path)`; without values the sentence is taken as it is."""
    if language() == "ko":
        sentence = korean().get(sentence, sentence)
        values = {name: _said(value) for name, value in values.items()}
    return filled(sentence, values)


class Sentence(str):
    """A sentence of a table: English as it stands there, `said()` when a person reads it."""

    __slots__ = ()

    def said(self, /, **values: object) -> str:
        return say(self, **values)


def filled(sentence: str, values: Mapping[str, object]) -> str:
    """The sentence with its values, each made harmless: they come from anywhere."""
    if not values:
        return sentence
    return sentence.format(**{name: harmless(value) for name, value in values.items()})


def _said(value: object) -> object:
    """A value that is an error of ours is said in the same language."""
    return value.told() if hasattr(value, "sentence") and hasattr(value, "told") else value


@cache
def korean() -> dict[str, str]:
    """{English sentence: Korean}."""
    import yaml  # English needs none, and help answers at once

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's: ten times faster
    said: dict[str, str] = {}
    for file in sorted(CATALOGUE.glob("*.yaml")):
        said |= yaml.load(file.read_text(encoding="utf-8"), loader) or {}
    return said
