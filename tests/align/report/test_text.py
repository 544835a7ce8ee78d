"""Numbers as printed, and foreign text made harmless and visible."""

from __future__ import annotations

import pytest

from align.report.text import interval, listing, markdown, number, visible


@pytest.mark.parametrize(
    ("value", "digits", "sign", "text"),
    [
        (0.5, 2, False, "0.50"),
        (-0.126, 2, False, "−0.13"),
        (-0.001, 2, False, "0.00"),
        (-0.001, 2, True, "0.00"),
        (0.126, 2, True, "+0.13"),
        (12.3456, 0, False, "12"),
        (None, 2, False, "–"),
    ],
)
def test_number(value: float | None, digits: int, sign: bool, text: str) -> None:
    assert number(value, digits, sign=sign) == text


def test_interval() -> None:
    assert interval({"mean": 0.5, "low": 0.4, "high": 0.61, "n": 9}) == "0.50 [0.40, 0.61]"
    assert interval({"mean": 0.5, "low": None, "high": None, "n": 1}) == "0.50 (n = 1)"
    assert interval(None) == "–"


@pytest.mark.parametrize(
    ("parts", "text"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (list("abc"), "a, b and c")],
)
def test_listing(parts: list[str], text: str) -> None:
    assert listing(parts) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain 한국어", "plain 한국어"),
        ("two\nlines", "two\nlines"),
        ("\x1b[31mred\x07", "␛[31mred␇"),
        ("abc\u202etxt.exe", "abc⟨U+202E⟩txt.exe"),
        ("a\u200bb\u2028c\x7f\x85", "a⟨U+200B⟩b⟨U+2028⟩c␡⟨U+0085⟩"),
        ("\ud800", "⟨U+D800⟩"),
        ("tab\tand\rreturn", "tab␉and␍return"),
        ("🙂 café", "🙂 café"),
    ],
)
def test_what_acts_unseen_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_long_answer_is_cut_and_the_cut_is_said() -> None:
    assert visible("가" * 1210) == "가" * 1200 + " … (10 more characters)"


def test_markdown_means_nothing_but_its_characters() -> None:
    assert markdown("a|b\n# c") == r"a\|b ⏎ \# c"
    assert markdown("<b>*x* & [y](z)") == r"&lt;b&gt;\*x\* &amp; \[y\]\(z\)"
    assert markdown("`code` https://x.y") == r"\`code\` https\://x\.y"
