"""Passed and failed checks of an answer, in words."""

from __future__ import annotations

import pytest

from align.report.checks import LONGEST, graded, label
from align.scoring.checks import NEEDS
from align.scoring.rules import KINDS

CHECKS = [
    {"kind": "contains_any", "values": ["Vienna"], "core": True},
    {"kind": "excludes", "values": ["Beijing"], "core": True},
    {"kind": "concise", "max_chars": 10},
    {"kind": "polite", "language": "en"},
]


def test_each_check_of_an_answer_is_passed_failed_or_between():
    found = graded("It is Vienna.", CHECKS)  # 13 characters of 10: 2 − 1.3
    assert [(one.mark, one.label) for one in found] == [
        ("✓", "contains Vienna"),
        ("✓", "without Beijing"),
        ("0.70", "concise"),
        ("✓", "polite"),
    ]
    assert [one.core for one in found] == [True, True, False, False]
    assert [one.mark for one in graded("dunno", CHECKS)] == ["✗", "✓", "✓", "✗"]


def test_an_empty_answer_passes_nothing():
    assert [one.mark for one in graded(" \n", CHECKS)] == ["✗"] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_words(kind):
    examples = {list: ["one", "two"], dict: {"a": 1}, str: "en", int: 3}
    check = {"kind": kind, **{key: examples[one] for key, one in NEEDS.get(kind, {}).items()}}
    assert label(check) and "_" not in label(check) and "None" not in label(check)


def test_long_values_are_cut():
    told = label({"kind": "excludes", "values": ["w" * 20, "w" * 20]})
    assert len(told) == len("without ") + LONGEST and told.endswith("w…")
