"""Whether the checks of a prompt can be used, asked before any model is.

Checks are data: each value's type is looked at, so that no answer of a model ends in a traceback.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from align.config import DataSource
from align.data.load import load_prompts
from align.data.rows import Prompt
from align.messages import say
from align.messages.errors import DataError
from align.scoring.patterns import fault
from align.scoring.rules import KINDS, Check

NEEDS: dict[str, dict[str, type]] = {
    "contains_any": {"values": list},
    "contains_all": {"values": list},
    "excludes": {"values": list},
    "regex": {"pattern": str},
    "number": {"answer": int},
    "members": {"values": list, "count": int},
    "first_named": {"answer": str, "other": str},
    "json": {"values": dict},
    "polite": {"language": str},
    "concise": {"max_chars": int},
    "language": {"language": str},
}
"""What a kind of check needs beside `kind`; the others need nothing."""
TYPE_NAMES = {list: "a list", dict: "a mapping", str: "a text", int: "a whole number"}
LANGUAGES = ("en", "ko")
HEAVIEST = 1_000_000


def load_checked_prompts(
    source: DataSource, *, warn: Callable[[str], None] | None = None
) -> list[Prompt]:
    """Prompts whose checks the judge can use; a row with another one is refused by its place."""
    rows = load_prompts(source, warn=warn)
    for row in rows:
        check_checks(row)
    return rows


def check_checks(prompt: Prompt) -> None:
    """Refuse checks that the judge cannot use, before any model is asked."""
    if not prompt.checks:
        return
    try:
        require_usable(prompt.checks)
    except ValueError as error:
        raise DataError(
            "{where}: checks: {error}; data/README.md lists the kinds of checks",
            where=prompt.where,
            error=error,
        ) from error


def require_usable(checks: Sequence[Check]) -> None:
    """Refuse checks that `judge` could not use on some response.

    Raises:
        ValueError: what is missing, of another type, or empty.
    """
    for check in checks:
        kind = check.get("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            raise ValueError(
                say(
                    "kind={kind!r} is no check; choose one of {kinds}",
                    kind=kind,
                    kinds=", ".join(sorted(KINDS)),
                )
            )
        _require_values(kind, check)
        weight = check.get("weight", 1.0)
        if not _is_number(weight) or not 0 < weight <= HEAVIEST:
            raise ValueError(
                say(
                    "{kind}: weight={weight!r} should be a number above 0, up to a million",
                    kind=kind,
                    weight=weight,
                )
            )
        if not isinstance(check.get("core", False), bool):
            raise ValueError(
                say("{kind}: core={core!r} should be true or false", kind=kind, core=check["core"])
            )
    if not any(check.get("core") for check in checks):
        raise ValueError(say("at least one must be core; add `core: true`"))


def _require_values(kind: str, check: Check) -> None:
    for name, expected in NEEDS.get(kind, {}).items():
        value: Any = check.get(name)
        if not _is(value, expected) or (not value and name != "answer"):
            raise ValueError(
                say(
                    "{kind}: {name}={value!r} should be {expected}",
                    kind=kind,
                    name=name,
                    value=value,
                    expected=say(TYPE_NAMES[expected]),
                )
            )
        if isinstance(value, list) and not all(isinstance(text, str) and text for text in value):
            raise ValueError(
                say(
                    "{kind}: {name}={value!r} should hold texts; put them in quotes",
                    kind=kind,
                    name=name,
                    value=value,
                )
            )
        if expected is int and value < 0:
            raise ValueError(
                say(
                    "{kind}: {name}={value} should not be below 0",
                    kind=kind,
                    name=name,
                    value=value,
                )
            )
        if name == "language" and value not in LANGUAGES:
            raise ValueError(
                say(
                    "{kind}: language={value!r}: choose {languages}",
                    kind=kind,
                    value=value,
                    languages=" or ".join(LANGUAGES),
                )
            )
        if name in ("answer", "other") and value == "":
            raise ValueError(say("{kind}: {name} is empty; give a text", kind=kind, name=name))
    if kind == "number":
        given = check.get("given", [])
        if not isinstance(given, list) or not all(_is(number, int) for number in given):
            raise ValueError(
                say(
                    "number: given={given!r} should be a list of whole numbers, as [3, 5]",
                    given=given,
                )
            )
    if kind == "regex" and (problem := fault(check["pattern"])) is not None:
        raise ValueError(
            say("regex: pattern={pattern!r}: {problem}", pattern=check["pattern"], problem=problem)
        )


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is(value, int) or _is(value, float)
