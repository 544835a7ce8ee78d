"""Rows of a file or a hub data set, each with the place it came from. No row is judged here.

JSONL, JSON (a list of rows), CSV, TSV and Parquet, each also as .gz; a byte-order mark is harmless.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from align.config import DataSource
from align.data.packed import refuse_bomb, unpacked
from align.data.rows import RowError
from align.messages import Sentence, say
from align.messages.errors import DataError

LocatedRow = tuple[str, dict[str, Any] | RowError]
"""Where a row stands (`file:line`), and the row or what is wrong with it."""

READABLE = Sentence(".jsonl, .json, .csv, .tsv or .parquet, each also with .gz")
SEPARATORS = {".csv": ",;\t", ".tsv": "\t"}
"""What may stand between the cells: the first that the header has. Excel writes `;` in Europe."""


def read_rows(source: DataSource) -> Iterator[LocatedRow]:
    """Yield every row of the source in file order."""
    path = Path(source.path)
    if path.is_file():
        return _read_file(path)
    if path.exists() or path.suffix or path.is_absolute() or source.path.startswith("."):
        problem = say("a folder, not a file") if path.exists() else say("no such file")
        raise DataError(
            "{path}: {problem}; give a file ({kinds}), or a hub name and revision",
            path=source.path,
            problem=problem,
            kinds=READABLE.said(),
        )
    return _read_hub(source)


def _read_file(path: Path) -> Iterator[LocatedRow]:
    kind = next((s for s in reversed(path.suffixes) if s != ".gz"), "").lower()
    if kind == ".parquet":
        return _read_parquet(path)
    if kind in SEPARATORS:
        return _read_csv(path, _bytes(path), SEPARATORS[kind])
    readers = {".jsonl": _read_jsonl, ".ndjson": _read_jsonl, ".json": _read_json}
    if kind not in readers:
        raise DataError(
            "{path}: unknown kind of file {kind!r}; use {kinds}",
            path=path,
            kind=kind or path.name,
            kinds=READABLE.said(),
        )
    return readers[kind](path, _bytes(path))


def _bytes(path: Path) -> bytes:
    try:
        content = unpacked(path) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            "{path}: cannot be read ({error}); check the file", path=path, error=error
        ) from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError("{path}: UTF-16 text; save it as UTF-8", path=path)
    return content.removeprefix(b"\xef\xbb\xbf")


def _text(line: bytes, *, first_line: int) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        row = first_line + line[: error.start].count(b"\n")
        raise RowError(
            say("byte {byte} of line {line}", byte=f"{line[error.start]:#04x}", line=row),
            "not UTF-8",
            "save the file as UTF-8",
        ) from error


def _read_jsonl(path: Path, content: bytes) -> Iterator[LocatedRow]:
    if content.lstrip()[:1] == b"[":
        yield from _read_json(path, content)
        return
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            yield where, _object(_json(_text(line, first_line=number)))
        except RowError as error:
            yield where, error


def _read_json(path: Path, content: bytes) -> Iterator[LocatedRow]:
    try:
        text = _text(content, first_line=1)
    except RowError as error:
        raise DataError("{path}: {error}", path=path, error=error) from error
    position = len(text) - len(text.lstrip())
    if text[position : position + 1] != "[":
        if "\n{" in text.strip():  # one object a line under another name
            yield from _read_jsonl(path, content)
            return
        raise DataError(
            "{path}: not a list of rows; write [{{…}}, {{…}}] or one row a line (.jsonl)", path=path
        )
    line, counted, position, last_line = 1, 0, position + 1, 0
    while True:
        while position < len(text) and text[position] in " \t\r\n,":
            position += 1
        line, counted = line + text.count("\n", counted, position), position
        where = f"{path}:{line}"
        if text[position : position + 1] == "]":
            if text[position + 1 :].strip():
                raise DataError(
                    "{where}: more text after the list of rows; make it one list", where=where
                )
            return
        if line == last_line:  # rows on one line are told apart by their columns
            where += ":" + str(position - text.rfind("\n", 0, position))
        last_line = line
        try:
            with _python_limits():
                value, end = _decoded(text, position)
        except json.JSONDecodeError as error:
            raise DataError(
                "{path}:{line}: not JSON ({reason} at column {column}); correct it here, "
                "the rest of the file cannot be read",
                path=path,
                line=error.lineno,
                reason=error.msg,
                column=error.colno,
            ) from error
        except _LimitError as error:
            raise DataError("{where}: {error}", where=where, error=error) from error
        if isinstance(value, RowError):
            yield where, value
        else:
            try:
                yield where, _object(value)
            except RowError as error:
                yield where, error
        position = end


def _decoded(text: str, position: int) -> tuple[Any, int]:
    """The JSON value there, or what is wrong with its keys; and where it ends."""
    try:
        return json.JSONDecoder(object_pairs_hook=_no_duplicates).raw_decode(text, position)
    except RowError as error:
        return error, json.JSONDecoder().raw_decode(text, position)[1]


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RowError(twice, "given twice", "keep one")
    return result


class _LimitError(RowError):
    """A value that is JSON and that Python does not read; where it ends is not known."""


@contextlib.contextmanager
def _python_limits() -> Iterator[None]:
    """Turn what `json` raises about values beyond Python's limits into errors of the row."""
    try:
        yield
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise _LimitError("row", "nested too deeply", "a row is a few levels") from None
    except ValueError:  # of int(), which reads 4300 digits at most
        raise _LimitError("row", "a number of thousands of digits", "correct it") from None


def _json(text: str) -> Any:
    try:
        with _python_limits():
            return json.loads(text, object_pairs_hook=_no_duplicates)
    except json.JSONDecodeError as error:
        raise RowError(
            say("column {column}", column=error.colno),
            "not JSON ({reason})",
            "write one JSON object a line",
            reason=error.msg,
        ) from error


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise RowError(
            "row", "a {kind}, not an object", 'write {{"prompt": …, "response": …}}', kind=kind
        )
    return value


def _read_csv(path: Path, content: bytes, separators: str) -> Iterator[LocatedRow]:
    try:
        text = _text(content, first_line=1)
    except RowError as error:
        raise DataError("{path}: {error} (in Excel: CSV UTF-8)", path=path, error=error) from error
    first_line = text.partition("\n")[0]
    separator = next((mark for mark in separators if mark in first_line), separators[0])
    header: list[str] | None = None
    for where, cells in _csv_lines(path, text, separator):
        if header is None:
            header = cells
            if twice := {name for name in header if name and header.count(name) > 1}:
                names = ", ".join(sorted(twice))
                raise DataError(
                    "{where}: {names}: a column given twice; keep one", where=where, names=names
                )
        elif len(cells) != len(header):
            yield (
                where,
                RowError(
                    "row",
                    "{cells} columns where the header has {columns}",
                    "put cells that hold {separator!r} in double quotes",
                    cells=len(cells),
                    columns=len(header),
                    separator=separator,
                ),
            )
        else:
            yield where, dict(zip(header, cells, strict=True))


def _csv_lines(path: Path, text: str, separator: str) -> Iterator[tuple[str, list[str]]]:
    """The cells of each line that has any, and where it stands; quoted, it may be several lines."""
    csv.field_size_limit(1 << 28)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    while True:
        where = f"{path}:{reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(
                "{where}: not CSV ({error}); check the quotes", where=where, error=error
            ) from error
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield where, cells


def _read_parquet(path: Path) -> Iterator[LocatedRow]:
    import pyarrow
    import pyarrow.parquet

    try:
        given = path if path.suffix != ".gz" else io.BytesIO(_bytes(path))
        file = pyarrow.parquet.ParquetFile(given)
        refuse_bomb(path, file.metadata)
        table = file.read()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            "{path}: cannot be read as Parquet ({error}); check the file", path=path, error=error
        ) from error
    for number, row in enumerate(table.to_pylist(), start=1):
        yield f"{path}:{number}", row


def _read_hub(source: DataSource) -> Iterator[LocatedRow]:
    import datasets

    try:
        rows = datasets.load_dataset(source.path, revision=source.revision, split=source.split)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            "{path}: no such file, and the hub says: {reason}; check the path, or the "
            "name, revision and split",
            path=source.path,
            reason=reason,
        ) from error
    for number, row in enumerate(rows, start=1):
        yield f"{source.path}[{source.split}]:{number}", dict(row)
