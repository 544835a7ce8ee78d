"""Hangul takes two columns, and what does not fit is cut or folded at a space."""

import re

import pytest

from align.messages.columns import aligned, cut, fold, pad, page, width, wrap
from align.report.terminal import table
from tests import summaries


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
        (
            "경보     length_drift: 답이 길어졌습니다",
            ["경보     length_drift: 답이", "         길어졌습니다"],
        ),
        (
            "오류: 그런 파일이 여기에는 없습니다",
            ["오류: 그런 파일이 여기에는", "      없습니다"],
        ),
        ("    PPO   I was the very best way", ["    PPO   I was the very", "          best way"]),
        ("wins are the reward model's opinion", ["wins are the reward model's", "opinion"]),
        ("    more of the same, and more", ["    more of the same, and", "    more"]),
        (
            "runs/a-path-without-any-space/is-left-whole",
            ["runs/a-path-without-any-space/is-left-whole"],
        ),
    ],
)
def test_a_line_is_folded_under_its_label(line, folded):
    assert fold(line, 28) == folded


TABLE = """\
           gold [95 %]  seen   KL
─────────────────────────────────
SFT   0.5 [0.4, 0.6]    0.49  0.0
최선  ≤ 0.6 [0.5, 0.7]  0.54    –
─────────────────────────────────
10 prompts; KL in nats
wins against SFT"""


def test_a_table_is_told_in_parts_that_fit_each_with_its_first_column():
    assert page(TABLE, 100) == TABLE
    assert page(TABLE, 25) == (
        "           gold [95 %]\n"
        "──────────────────────\n"
        "SFT   0.5 [0.4, 0.6]\n"
        "최선  ≤ 0.6 [0.5, 0.7]\n"
        "──────────────────────\n"
        "      seen   KL\n"
        "───────────────\n"
        "SFT   0.49  0.0\n"
        "최선  0.54    –\n"
        "───────────────\n"
        "10 prompts; KL in nats\n"
        "wins against SFT"
    )


def test_prose_that_was_wrapped_for_a_page_is_wrapped_anew():
    told = " ".join(f"word{number}" for number in range(40))
    text = "\n".join(["notes of a table", "stay lines", "", *wrap(told, 100), "The end."])
    lines = page(text, 40).split("\n")
    assert lines == ["notes of a table", "stay lines", "", *wrap(told, 40), "The end."]


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_the_table_of_every_policy_fits_with_all_its_cells(columns):
    whole = table(summaries.summary(summaries.EVERY))
    told = page(whole, columns)
    assert max(map(width, told.split("\n"))) <= columns
    cells = [cell for line in whole.split("\n")[:10] for cell in re.split(" {2,}", line) if cell]
    for cell in cells:
        assert cell in told or set(cell) == {"─"}


def test_cells_of_a_table_stand_under_each_other_by_columns_of_the_terminal():
    rows = [("", "답", "n"), ("가나", "x", "10")]
    assert aligned(rows) == ["      답  n", "가나  x   10"]
    assert aligned(rows, right=True) == ["      답   n", "가나   x  10"]
