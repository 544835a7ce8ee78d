"""The three loaders: read a source, check every row, list every problem, split by prompt."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from align.config import DataSource
from align.data import formats
from align.data.files import read_rows
from align.data.rows import Instruction, Message, Preference, Prompt, RowError
from align.messages import counted, one_line, say
from align.messages.errors import ConfigError, DataError

LISTED, ALIKE = 10, 3
"""Bad rows written out in full; where there are more, so many for one reason, and counts."""


class _Prompted(Protocol):
    @property
    def prompt(self) -> list[Message]: ...


Record = TypeVar("Record", bound=_Prompted)


def load_instructions(
    source: DataSource, *, warn: Callable[[str], None] | None = None
) -> list[Instruction]:
    """Demonstrations for SFT; preference rows give their chosen answers."""
    return _load(source, formats.instruction, warn)


def load_preferences(
    source: DataSource, *, warn: Callable[[str], None] | None = None
) -> list[Preference]:
    """Pairs for the reward model and DPO."""
    return _load(source, formats.preference, warn)


def load_prompts(source: DataSource, *, warn: Callable[[str], None] | None = None) -> list[Prompt]:
    """Prompts for PPO and evaluation; rows that carry answers give their prompts."""
    return _load(source, formats.prompt, warn)


def prompt_key(messages: Sequence[Message]) -> str:
    """Name a prompt by its first user message, folding case and spaces.

    Later turns do not count: continuations of one dialogue share a key, hence a side of the split.
    """
    first = next(message["content"] for message in messages if message["role"] == "user")
    return hashlib.sha256(" ".join(first.casefold().split()).encode()).hexdigest()


def with_unseen_prompts(rows: Sequence[Record], trained: Sequence[Record]) -> list[Record]:
    """Rows whose prompt none of the rows that were trained on has, letter for letter."""
    known = {str(row.prompt) for row in trained}
    return [row for row in rows if str(row.prompt) not in known]


def _load(
    source: DataSource,
    parse: Callable[[dict[str, Any], str, str], Record],
    warn: Callable[[str], None] | None,
) -> list[Record]:
    records: list[Record] = []
    problems: list[tuple[str, RowError]] = []
    try:
        formats.require_known(source.format)
    except ValueError as error:
        raise ConfigError("{path}: {error}", path=source.path, error=error) from error
    format = source.format
    rows = 0
    for where, row in counted(read_rows(source), say("reading {path}", path=source.path)):
        rows += 1
        try:
            if isinstance(row, RowError):
                raise row
            row = formats.named(_renamed(row, source.columns))
            format = formats.detect(row) if format == "auto" else format
            record = parse(row, format, where)
        except RowError as error:
            problems.append((where, error))
            continue
        if _in_part(record.prompt, source):
            records.append(record)
        if source.max_rows is not None and len(records) == source.max_rows:
            break
    if rows == 0:
        raise DataError("{path}: no rows; put at least one in it", path=source.path)
    _report(source, rows, problems, warn)
    if not records:
        raise DataError(
            "{path}: none of {rows} rows is in part={part} with holdout={holdout}; "
            "give more rows or a larger holdout",
            path=source.path,
            rows=rows,
            part=source.part,
            holdout=source.holdout,
        )
    return records


def _renamed(row: dict[str, Any], columns: dict[str, str]) -> dict[str, Any]:
    """Give the file's columns our names."""
    for ours, theirs in columns.items():
        if theirs not in row:
            raise RowError(
                theirs,
                "no such column (columns.{ours}={theirs})",
                "the row has {columns}",
                ours=ours,
                theirs=theirs,
                columns=", ".join(map(str, row)),
            )
    ours_of = {theirs: ours for ours, theirs in columns.items()}
    kept = {name: value for name, value in row.items() if name not in columns}
    return kept | {ours_of[name]: value for name, value in row.items() if name in ours_of}


def _in_part(prompt: Sequence[Message], source: DataSource) -> bool:
    """A prompt is held out by its hash, so every file and stage agrees on its side."""
    if source.holdout == 0.0:
        return True
    held_out = int(prompt_key(prompt)[:15], 16) / 16**15 < source.holdout
    return held_out == (source.part == "heldout")


def _report(
    source: DataSource,
    rows: int,
    problems: list[tuple[str, RowError]],
    warn: Callable[[str], None] | None,
) -> None:
    """List bad rows; more than `max_bad_rows` of them are fatal."""
    if not problems:
        return
    path = one_line(source.path)
    counts: Counter[str] = Counter()
    lines: list[str] = []
    for where, error in problems:
        counts[error.reason] += 1
        alike = ALIKE if len(problems) > LISTED else LISTED
        if counts[error.reason] <= alike and len(lines) < LISTED:
            lines.append(f"{one_line(where)}: {error}")
    if len(problems) > len(lines):
        reasons = ", ".join(f"{count} × {reason}" for reason, count in counts.most_common(5))
        lines.append(
            say(
                "{path}: {bad} bad rows of {rows}: {reasons}",
                path=path,
                bad=len(problems),
                rows=rows,
                reasons=reasons,
            )
        )
    if len(problems) > source.max_bad_rows:
        if source.max_bad_rows or len(problems) > 1:
            lines.append(
                say(
                    "{path}: {bad} bad rows, max_bad_rows={allowed}; correct them, or raise "
                    "max_bad_rows to drop them",
                    path=path,
                    bad=len(problems),
                    allowed=source.max_bad_rows,
                )
            )
        raise DataError("\n".join(lines))
    if warn is not None:
        for line in lines:
            warn(say("dropped {line}", line=line))
