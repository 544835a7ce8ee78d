"""Foreign text made harmless, for whoever reads it: the one sanitiser of all that people see.

Data, file names, keys of YAML and JSON, and answers of models may hold characters that act instead
of being seen: an ESC that moves the cursor or retitles the terminal, a mark that turns the reading
direction, a letter of no width, a line break that forges an `error:` line.
"""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from pathlib import PurePath
from typing import Any

from align.messages.columns import fold, is_terminal, page, terminal_width

SHOWN_CHARACTERS = 1200
"""Of one foreign text; what is longer is cut, and the cut is said."""

COLOURS = (
    (re.compile(r"(?:error|오류)(?=:)|fault (?=\S)"), "1;31"),
    (re.compile(r"(?:warning|경고)(?=:)|note  (?=\S)"), "33"),
    (re.compile(r"[a-z]{2,8}(?= +(?:runs:|up to date|done in|실행합니다:|최신 상태|완료))"), "1"),
)
"""Labels of lines and their codes (ECMA-48, SGR)."""
_ACTING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | frozenset(
    map(chr, (*range(0x180B, 0x1810), *range(0xE0100, 0xE01F0)))
)
"""Letters and marks that show nothing and have a category that does: fillers, variation selectors
outside of emoji."""
_PLAIN = re.compile(r"[\n -~\u00a1-\u00ac\u00ae-\u024f가-힣ㄱ-ㅣ]*")
"""What needs no second look: ASCII, Latin and Hangul."""
_JOINERS = "\u200c\u200d"
_JOINED_SCRIPTS = range(0x0600, 0x0E00)
"""Arabic to Sinhala, where a joiner decides how letters are written."""


def visible(text: str) -> str:
    """Show what would otherwise act unseen; line breaks stay.

    A control character becomes its picture (␛), others `⟨U+202E⟩`. A joiner stays where it joins,
    between emoji and in the scripts that write with it.
    """
    if _PLAIN.fullmatch(text):
        return text
    return "".join(
        character if _seen(text, position) else _picture(character)
        for position, character in enumerate(text)
    )


def one_line(text: str) -> str:
    """Foreign text within a line of ours: its line breaks are pictures too, and it has an end."""
    shown = visible(text[:SHOWN_CHARACTERS]).replace("\n", "␊")
    missing = len(text) - SHOWN_CHARACTERS
    return f"{shown} … ({missing} more characters)" if missing > 0 else shown


def harmless(value: object) -> object:
    """A value as it may stand in a sentence: texts, paths and what others raised, on one line.

    An error of ours keeps its lines: the values in it are harmless already.
    """
    if hasattr(value, "sentence"):
        return value
    if isinstance(value, str | PurePath | BaseException):
        return one_line(str(value))
    return value


def tell(text: object, *, end: str = "\n", error: bool = False, laid_out: bool = False) -> None:
    """Print lines for people: the one way to the terminal, apart from the progress line.

    On a terminal, lines are folded at its width and their labels coloured; what was `laid_out` for
    a page is laid out anew for fewer columns.
    """
    stream = sys.stderr if error else sys.stdout
    shown = visible(str(text))
    if is_terminal(stream):
        columns = terminal_width(stream)
        shown = page(shown, columns) if laid_out else shown
        lines = (part for line in shown.split("\n") for part in fold(line, columns))
        shown = "\n".join(map(coloured, lines))
    print(shown, end=end, file=stream, flush=True)


def coloured(line: str) -> str:
    """A line with its label in colour: what failed red, what warns yellow, a stage bold."""
    if os.environ.get("NO_COLOR"):
        return line
    for label, codes in COLOURS:
        if (found := label.match(line)) is not None:
            return f"\x1b[{codes}m{found.group()}\x1b[0m{line[found.end() :]}"
    return line


def json_text(value: Any, **settings: Any) -> str:
    """JSON that is safe to look at in a terminal, and reads back as the same value."""
    text = json.dumps(value, ensure_ascii=False, **settings)
    if _PLAIN.fullmatch(text):
        return text
    return "".join(
        character if _seen(text, position) else json.dumps(character)[1:-1]
        for position, character in enumerate(text)
    )


def _seen(text: str, position: int) -> bool:
    character = text[position]
    if character in _JOINERS:
        return 0 < position < len(text) - 1 and _joins(text[position - 1], text[position + 1])
    if character in _UNSEEN:
        return False
    return character == "\n" or unicodedata.category(character) not in _ACTING


def _joins(before: str, after: str) -> bool:
    if ord(before) in _JOINED_SCRIPTS:
        return ord(after) in _JOINED_SCRIPTS
    emoji = {unicodedata.category(before), unicodedata.category(after)} <= {"So", "Sk", "Mn"}
    return emoji and min(before, after) > "\u2000"


def _picture(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"
