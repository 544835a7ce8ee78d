"""Packed data is read as it is, and no file of a megabyte fills the memory."""

from __future__ import annotations

import gzip
import json
import tracemalloc

import pyarrow
import pyarrow.parquet
import pytest

from align.config import DataSource
from align.data import packed
from align.data.load import load_prompts
from align.messages.errors import DataError


@pytest.fixture(scope="module")
def bomb():
    """Twice what is harmless, of one letter."""
    return gzip.compress(b"a" * (2 * packed.HARMLESS), compresslevel=1)


@pytest.mark.parametrize(
    "name", ["bomb.jsonl.gz", "bomb.csv.gz", "bomb.json.gz", "bomb.parquet.gz"]
)
def test_a_file_that_unpacks_to_hundreds_of_times_its_size_is_refused(tmp_path, bomb, name):
    file = tmp_path / name
    file.write_bytes(bomb)
    tracemalloc.start()
    with pytest.raises(DataError, match="unpack to more than 100 times") as told:
        load_prompts(DataSource(path=str(file)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "\n" not in str(told.value)
    assert peak < 1.2 * packed.HARMLESS


def test_a_bomb_of_many_members_is_counted_together(tmp_path):
    file = tmp_path / "many.jsonl.gz"
    member = gzip.compress(b" " * (1 << 20))
    file.write_bytes(member * 200)
    with pytest.raises(DataError, match="unpack to more than"):
        load_prompts(DataSource(path=str(file)))


def test_what_people_pack_is_read(tmp_path, monkeypatch):
    """Rows alike to a few letters; small files may pack as well as they can."""
    monkeypatch.setattr(packed, "HARMLESS", 0)
    rows = [
        json.dumps({"prompt": f"Question {i} of many?", "response": "No."}) for i in range(5000)
    ]
    file = tmp_path / "rows.jsonl.gz"
    file.write_bytes(gzip.compress("\n".join(rows).encode()))
    assert len(load_prompts(DataSource(path=str(file)))) == 5000


def test_a_small_file_may_repeat_itself(tmp_path):
    file = tmp_path / "rows.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"prompt": "a"}\n' * 20_000))
    assert len(load_prompts(DataSource(path=str(file)))) == 20_000


def test_a_table_of_a_billion_equal_rows_is_refused(tmp_path):
    file = tmp_path / "bomb.parquet"
    column = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array([0] * 1_000_000, pyarrow.int8()), pyarrow.array(["a"])
    )
    table = pyarrow.table({"prompt": column})
    with pyarrow.parquet.ParquetWriter(file, table.schema) as writer:
        for _ in range(20):
            writer.write_table(table)
    assert file.stat().st_size < 100_000
    with pytest.raises(DataError, match="unpack to more than"):
        load_prompts(DataSource(path=str(file)))


def test_a_cell_of_gigabytes_is_refused(tmp_path):
    file = tmp_path / "bomb.parquet"
    table = pyarrow.table({"prompt": ["a" * ((1 << 26) + (1 << 20))]})
    pyarrow.parquet.write_table(table, file, compression="zstd", use_dictionary=False)
    with pytest.raises(DataError, match="unpack to more than"):
        load_prompts(DataSource(path=str(file)))


@pytest.mark.parametrize(
    "content", [b"", b"\x1f\x8b", b"not gzip", gzip.compress(b"{}", mtime=0)[:-6]]
)
def test_a_torn_file_is_one_line(tmp_path, content):
    file = tmp_path / "torn.jsonl.gz"
    file.write_bytes(content)
    with pytest.raises(DataError) as told:
        load_prompts(DataSource(path=str(file)))
    assert "\n" not in str(told.value)
