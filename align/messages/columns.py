"""Text in the columns of a terminal: Hangul takes two, a combining mark none."""

from __future__ import annotations

import io
import os
import re
import shutil
import unicodedata
from collections.abc import Sequence
from typing import TextIO

LABEL = re.compile(
    r" *[^\W\d]+  +(?=\S)| +|(?:error|warning|오류|경고): |(?:fault|evaluate) (?=\S)"
)
"""What a line of ours begins with; where the line is folded, the rest stands under what follows."""
LABEL_COLUMNS = 16
PAGE = 100
"""Columns that texts in files are laid out for."""
RULE = re.compile("─+")
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


def aligned(rows: Sequence[Sequence[str]], *, right: bool = False) -> list[str]:
    """The rows of a table as lines; each column is as wide as its widest cell.

    Args:
        right: whether cells stand at the right, those of the first column apart.
    """
    columns = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            pad(cell, columns[at], right=right and at > 0) for at, cell in enumerate(row)
        ).rstrip()
        for row in rows
    ]


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
    label = LABEL.match(line)
    head = label.group() if label and width(label.group()) <= LABEL_COLUMNS else ""
    first, *rest = wrap(line[len(head) :], columns - width(head))
    return [head + first, *(" " * width(head) + part for part in rest)]


def page(text: str, columns: int) -> str:
    """A text that was laid out for PAGE columns, laid out for fewer: tables cut, sentences wrapped.

    A table is what stands between a header with a rule below it and the next rule. It is told in
    parts, each with its first column and as many others as there is room for.
    """
    if columns >= PAGE:
        return text
    lines, told = text.split("\n"), list[str]()
    wrapped = False
    while lines:
        rules = [row for row, line in enumerate(lines) if RULE.fullmatch(line)][:2]
        if len(rules) == 2 and rules[0] == 1:
            table, lines = lines[: rules[1] + 1], lines[rules[1] + 1 :]
            told += _narrowed([table[0], *table[2:-1]], columns)
            continue
        sentence = last = lines.pop(0)
        wrapped |= not sentence  # the notes below a table are a line each, what follows is prose
        while wrapped and lines and lines[0] and width(f"{last} {lines[0].split()[0]}") > PAGE:
            last = lines.pop(0)
            sentence += f" {last}"
        told += fold(sentence, columns)
    return "\n".join(told)


def _narrowed(rows: list[str], columns: int) -> list[str]:
    """A table's header and rows in parts that fit."""
    names, *cells = _cells(rows)
    told: list[str] = []
    while cells:
        used, kept = width(names[0]), [names]
        for cell in cells:
            used += 2 + width(cell[0])
            if used > columns and len(kept) > 1:
                break
            kept.append(cell)
        cells = cells[len(kept) - 1 :]
        lines = ["  ".join(row).rstrip() for row in zip(*kept, strict=True)]
        rule = "─" * max(map(width, lines))
        told += [lines[0], rule, *lines[1:], rule]
    return told


def _cells(rows: list[str]) -> list[tuple[str, ...]]:
    """The columns of a table, each with its padding: they stand apart by two spaces in all rows."""
    wide = [[part for c in row for part in (c, *[""] * (width(c) - 1))] for row in rows]
    longest = max(map(len, wide))
    grid = [row + [" "] * (longest - len(row)) for row in wide]
    blank = [all(row[at] == " " for row in grid) for at in range(longest)]
    starts = [0]
    for at in range(2, longest):
        if blank[at - 1] and blank[at - 2] and not blank[at]:
            starts.append(at)
    ends = [*(start - 2 for start in starts[1:]), longest]
    return [
        tuple("".join(row[start:end]) for row in grid)
        for start, end in zip(starts, ends, strict=True)
    ]
