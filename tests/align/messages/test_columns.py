"""Hangul takes two columns, and what does not fit is cut or folded at a space."""

import pytest

from align.messages.columns import cut, fold, pad, width, wrap


def test_hangul_takes_two_columns_and_marks_none():
    assert width("한글 ab") == 7
    assert width("e\u0301\u200d") == 1
    assert pad("한글", 6) == "한글  " and pad("한글", 6, right=True) == "  한글"
    assert wrap("가나다 라마 바사 abc", 9) == ["가나다", "라마 바사", "abc"]
    assert wrap("", 9) == [""]


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("가나다", 6, "가나다"),
        ("가나다", 5, "가나…"),
        ("가나다", 4, "가…"),  # half a syllable is none
        ("가", 1, "…"),
    ],
)
def test_a_text_is_cut_by_columns(text, columns, shown):
    assert cut(text, columns) == shown
    assert width(shown) <= columns


@pytest.mark.parametrize(
    ("line", "folded"),
    [
        ("sft      runs: first run", ["sft      runs: first run"]),
        (
            "sft      runs: seed 0 → 1, sft.max_length 8",
            ["sft      runs: seed 0 → 1,", "         sft.max_length 8"],
        ),
        (
            "evaluate runs: seed 0 → 1, sft.max_length 8",
            ["evaluate runs: seed 0 → 1,", "         sft.max_length 8"],
        ),
        (
            "error: the file 한글.jsonl is no file at all",
            ["error: the file 한글.jsonl", "       is no file at all"],
        ),
        ("    more of the same, and more", ["    more of the same, and", "    more"]),
        (
            "runs/a-path-without-any-space/is-left-whole",
            ["runs/a-path-without-any-space/is-left-whole"],
        ),
    ],
)
def test_a_line_is_folded_under_its_label(line, folded):
    assert fold(line, 28) == folded
