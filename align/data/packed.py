"""Packed files, unpacked within bounds: a megabyte may hold gigabytes of one letter.

Text packs to a third or a tenth, what repeats much to a fiftieth. What packs more than that, and is
large, is no data.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

from align.messages.errors import DataError

HARMLESS = 1 << 26
"""Bytes that any file may unpack to."""
MOST_TIMES, MOST_ROWS = 100, 10
"""A larger one: bytes for each of its own, and rows of a Parquet file."""
_PIECE = 1 << 20


def unpacked(path: Path) -> bytes:
    """What a .gz file holds.

    Raises:
        DataError: more than HARMLESS bytes and MOST_TIMES its own size; no more than that is read.
    """
    most = max(HARMLESS, MOST_TIMES * path.stat().st_size)
    pieces, size = [], 0
    with gzip.open(path) as file:
        while piece := file.read(_PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > most:
                raise _bomb(path)
    return b"".join(pieces)


def refuse_bomb(path: Path, metadata: Any) -> None:
    """The same for Parquet, by what its footer says of itself.

    Args:
        metadata: of `pyarrow.parquet.ParquetFile`.
    """
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    size, rows = sum(c.total_uncompressed_size for c in columns), metadata.num_rows
    own = path.stat().st_size
    if size > max(HARMLESS, MOST_TIMES * own) or rows > max(HARMLESS >> 6, MOST_ROWS * own):
        raise _bomb(path)


def _bomb(path: Path) -> DataError:
    return DataError(
        "{path}: {size} bytes that unpack to more than {times} times as much; no data repeats "
        "itself so, give the file unpacked if it is what you want",
        path=path,
        size=path.stat().st_size,
        times=MOST_TIMES,
    )
