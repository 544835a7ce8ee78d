"""Colours are legible, marks differ in shape."""

from __future__ import annotations

import pytest

from align.config.methods import POLICIES
from align.report.signs import COLOURS, outline, rules

PAPER = ("#fdfdfb", "#16181a")


def luminance(colour: str) -> float:
    """Relative luminance of sRGB (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("pair", COLOURS)
def test_every_colour_is_legible_as_text_on_its_paper(pair: tuple[str, str]) -> None:
    for colour, paper in zip(pair, PAPER, strict=True):
        low, high = sorted((luminance(colour), luminance(paper)))
        assert (high + 0.05) / (low + 0.05) >= 4.3  # WCAG asks 3 of large text, 4.5 of small


def test_no_two_policies_have_the_same_mark() -> None:
    outlines = [outline(name, 6.0) for name in POLICIES]
    assert len(set(outlines)) == len(outlines)


def test_a_mark_grows_with_its_size() -> None:
    assert outline("sft", 10.0) == "M-9 -9L9 -9L9 9L-9 9Z"
    assert outline("ppo", 10.0) == "M0 -13L13 0L0 13L-13 0Z"
    assert outline("base", 10.0) == outline("unheard of", 10.0) == ""


def test_the_style_has_a_height_for_every_row_and_a_colour_for_every_policy() -> None:
    style = rules([52, 102, 52])
    assert style.count(".h52 { height: 52px; }") == style.count(".h102 { height: 102px; }") == 1
    assert all(f".{name} {{ --c: var(--look-" in style for name in POLICIES)
