"""Text in the columns of a terminal: Hangul takes two, a combining mark none."""

from __future__ import annotations

import io
import os
import re
import shutil
import unicodedata
from typing import TextIO

LABEL = re.compile(r"(?:[a-z]{2,8}\s+|(?:error|warning): )(?=\S)")
"""What a line of ours begins with; where the line is folded, the rest stands under what follows."""
LABEL_COLUMNS = 9
NO_WIDTH = {"Mn", "Me", "Cf"}


def is_terminal(stream: TextIO) -> bool:
    """Whether lines can be rewritten and coloured there."""
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown", "")


def terminal_width(stream: TextIO) -> int:
    """Columns of the terminal behind a stream; where there is none, what COLUMNS says, or 80."""
    try:
        known = os.get_terminal_size(stream.fileno()).columns
    except (OSError, io.UnsupportedOperation):
        known = 0
    return known or shutil.get_terminal_size().columns


def width(text: str) -> int:
    return sum(
        0 if unicodedata.category(c) in NO_WIDTH else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def pad(text: str, columns: int, *, right: bool = False) -> str:
    space = " " * max(0, columns - width(text))
    return space + text if right else text + space


def cut(text: str, columns: int) -> str:
    """The beginning that fits; where something is missing it ends with `…`."""
    if width(text) <= columns:
        return text
    kept, used = "", 1
    for character in text:
        used += width(character)
        if used > columns:
            break
        kept += character
    return kept + "…"


def wrap(text: str, columns: int) -> list[str]:
    """Break at spaces so that no line is wider than `columns`, unless one word is."""
    lines: list[str] = []
    for word in text.split():
        if lines and width(lines[-1]) + 1 + width(word) <= columns:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines or [""]


def fold(line: str, columns: int) -> list[str]:
    """A line as it is if it fits, else broken at spaces under its label or its indentation."""
    if width(line) <= columns:
        return [line]
    label = re.match(r" +", line) or LABEL.match(line)
    head = label.group() if label and width(label.group()) <= LABEL_COLUMNS else ""
    first, *rest = wrap(line[len(head) :], columns - len(head))
    return [head + first, *(" " * len(head) + part for part in rest)]
