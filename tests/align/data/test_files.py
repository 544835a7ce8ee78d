"""Every kind of file is read; one that cannot be used is one line."""

from __future__ import annotations

import csv
import gzip
import json

import pytest

from align.data import load_instructions, load_preferences
from align.messages.errors import DataError
from tests.align.data.written import (
    BAD,
    GOOD,
    INSTRUCTIONS,
    MESSAGES,
    source,
)


def write_csv(path, rows, encoding="utf-8-sig"):
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_csv_as_a_spreadsheet_saves_it(tmp_path):
    rows = [
        {"질문": 'say "hi",\nplease', "답": "안녕하세요", "family": ""},
        {"질문": "둘", "답": "2", "family": "수"},
    ]
    path = write_csv(tmp_path / "rows.csv", rows)
    read = load_instructions(source(path, columns={"prompt": "질문", "response": "답"}))
    assert [m["content"] for m in read[0].messages] == ['say "hi",\nplease', "안녕하세요"]
    assert [row.where for row in read] == [f"{path}:2", f"{path}:4"]


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", "\t")])
def test_cells_may_be_separated_as_spreadsheets_outside_america_do(tmp_path, name, separator):
    path = tmp_path / name
    text = f"질문{separator}답변\r\n하나, 둘?{separator}셋, 넷\r\n"
    path.write_bytes(text.encode("utf-8-sig"))
    (row,) = load_instructions(source(path))
    assert [m["content"] for m in row.messages] == ["하나, 둘?", "셋, 넷"]


def test_a_cell_too_many_is_told_with_what_separates_cells_in_this_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("prompt;response\na;b;c\n")
    with pytest.raises(DataError, match=r"3 columns .* has 2; put cells that hold ';'"):
        load_instructions(source(path))


def test_rows_of_a_list_on_one_line_are_told_apart(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"prompt": "a", "response": "b"}, {"prompt": "a", "response": ""}]')
    with pytest.raises(DataError, match=r"a\.json:1:36: response: empty"):
        load_instructions(source(path))


def test_a_fault_of_the_whole_file_is_told_three_times_and_counted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("request,reply\n" + "a,b\n" * 40)
    with pytest.raises(DataError) as caught:
        load_instructions(source(path))
    lines = caught.value.told().splitlines()
    assert [line.split(": row: ")[0] for line in lines[:3]] == [f"{path}:{n}" for n in (2, 3, 4)]
    assert "40 bad rows of 40: 40 × row: columns request, reply" in lines[3]
    assert len(lines) == 5


def test_csv_of_preferences(tmp_path):
    path = write_csv(tmp_path / "rows.csv", [INSTRUCTIONS["preference"]])
    (row,) = load_preferences(source(path))
    assert (row.prompt, row.chosen, row.rejected) == (MESSAGES[:1], GOOD, BAD)


def test_csv_cells_may_hold_messages_as_json(tmp_path):
    path = write_csv(tmp_path / "rows.csv", [{"messages": json.dumps(MESSAGES)}])
    assert load_instructions(source(path))[0].messages == MESSAGES


def test_json_list_gz_and_parquet(tmp_path):
    import pyarrow
    import pyarrow.parquet

    rows = [INSTRUCTIONS["response"], {"prompt": "b", "response": "c"}]
    text = json.dumps(rows, indent=2)
    (tmp_path / "rows.json").write_text(text, "utf-8-sig")
    (tmp_path / "rows.json.gz").write_bytes(gzip.compress(text.encode()))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    for name in ("rows.json", "rows.json.gz", "rows.parquet"):
        read = load_instructions(source(tmp_path / name))
        assert [row.messages[1]["content"] for row in read] == [GOOD, "c"]
    assert [r.where for r in load_instructions(source(tmp_path / "rows.json"))] == [
        f"{tmp_path / 'rows.json'}:{line}" for line in (2, 6)
    ]


def test_lines_that_are_not_json_not_utf8_or_name_a_key_twice(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [b"{oops", b'{"prompt": "\xff", "response": "b"}', b'{"prompt": "a", "prompt": "b"}']
    path.write_bytes(b"\n\n" + b"\n".join(lines))
    with pytest.raises(DataError) as caught:
        load_instructions(source(path))
    first, second, third, last = str(caught.value).splitlines()
    assert first.startswith(f"{path}:3: column 2: not JSON")
    assert second == f"{path}:4: byte 0xff of line 4: not UTF-8; save the file as UTF-8"
    assert third == f"{path}:5: prompt: given twice; keep one"
    assert last.startswith(f"{path}: 3 bad rows")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("missing.jsonl", None, "no such file; give a"),
        ("empty.jsonl", b"", "no rows; put at least one"),
        ("empty.csv", b"", "no rows"),
        ("header.csv", b"prompt,response\n", "no rows"),
        ("empty.json", b"[]", "no rows"),
        ("rows.json", b'{"prompt": "a"}', "not a list of rows"),
        ("broken.json", b'[{"prompt": "a",\n "response" 3}]', "2: not JSON"),
        ("rows.txt", b"hello", "unknown kind of file '.txt'; use .jsonl"),
        ("utf16.jsonl", b"\xff\xfe{\x00", "UTF-16 text; save it as UTF-8"),
        ("korean.csv", "prompt,response\n가,나\n".encode("cp949"), "not UTF-8"),
        ("quotes.csv", b'prompt,response\n"a"b,c\n', "2: not CSV"),
        ("cells.csv", b"prompt,response\na,b,c\n", "2: row: 3 columns where the header has 2"),
        ("rows.parquet", b"hello", "cannot be read as Parquet"),
        ("rows.jsonl.gz", b"hello", "cannot be read"),
        ("torn.jsonl.gz", gzip.compress(b"x" * 99, mtime=0)[:12] + b"\xff" * 30, "cannot be read"),
        ("number.jsonl", b'{"a": %s}' % (b"1" * 5000), "1: row: a number of"),
        ("number.json", b'[{"a": %s}]' % (b"1" * 5000), "1: row: a number of thousands of digits"),
        ("twice.json", b'[{"a": 1, "a": 2, "b": [%s]}]' % (b"1" * 5000), "1: row: a number of"),
        ("after.json", b'[{"c": {"a": 1, "a": 2}, "b": %s}]' % (b"1" * 5000), "1: row: a number"),
        ("deep.jsonl", b'{"a": %s' % (b"[" * 200_000), "1: row: nested too deeply"),
        ("deep.json", b"[" * 200_000, "1: row: nested too deeply"),
        ("two.json", b'[{"prompt": "a", "response": "b"}]\n[1]', "1: more text after the list"),
        ("twice.csv", b"prompt,prompt,response\na,b,c\n", "1: prompt: a column given twice"),
        ("header.csv", b'prompt,"response\n', "1: not CSV"),
        ("format.jsonl", b'{"q": "a"}', "1: row: columns q fit no known format; call them"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(tmp_path, name, content, problem):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=problem) as caught:
        load_instructions(source(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_columns_without_a_name_are_no_columns_given_twice(tmp_path):
    """As a spreadsheet saves a sheet that was wider once."""
    path = tmp_path / "wide.csv"
    path.write_bytes(b"prompt,response,,\na,b,,\n")
    assert [row.messages[-1]["content"] for row in load_instructions(source(path))] == ["b"]


def test_a_cell_that_only_begins_like_messages_is_a_text(tmp_path):
    path = tmp_path / "rows.csv"
    for text in ('[{"a": %s}]' % ("1" * 5000), '[{"a": %s' % ("[" * 100_000)):
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["prompt", "response"], [text, "b"]])
        assert load_instructions(source(path))[0].messages[0]["content"] == text


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(DataError, match="a folder, not a file"):
        load_instructions(source(tmp_path))
