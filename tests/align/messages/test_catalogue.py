"""Every sentence has its Korean, with the same values, and no Korean stands for nothing."""

from __future__ import annotations

import re
import string

import pytest
import yaml

from tests.align.messages.sentences import CATALOGUE, said

SAID = list(said())
FOLDERS = sorted({one.folder for one in SAID})


def korean_of(folder):
    path = CATALOGUE / f"{folder}.yaml"
    return (yaml.safe_load(path.read_text("utf-8")) if path.exists() else None) or {}


def fields(sentence):
    """The values that a sentence names, with their formats; texts without any may hold braces."""
    try:
        return sorted(
            (name, form, conversion or "")
            for _, name, form, conversion in string.Formatter().parse(sentence)
            if name is not None
        )
    except ValueError:
        return []


def test_every_sentence_stands_in_the_code_as_it_is_said():
    assert [one.place for one in SAID if one.sentence is None] == [
        "align/data/rows.py:23",  # what RowError is given: the remedy,
        "align/data/rows.py:22",  # and the problem
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_sentence_has_its_korean_and_no_korean_is_left_over(folder):
    written = {one.sentence for one in SAID if one.folder == folder and one.sentence}
    known = korean_of(folder)
    assert sorted(written - known.keys()) == []
    assert sorted(known.keys() - written) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_korean_of_a_sentence_has_the_same_values(folder):
    differing = [
        english
        for english, korean in korean_of(folder).items()
        if fields(english) != fields(korean) or english.count("\n") != korean.count("\n")
    ]
    assert differing == []


NAMES = re.compile(r"\{[^}]*\}|`[^`]*`|\w+=\S+|\b\w+:")


@pytest.mark.parametrize("folder", FOLDERS)
def test_korean_is_korean(folder):
    """A sentence of words has Hangul; one of marks, values and names alone may stay as it is."""
    same = [
        english
        for english, korean in korean_of(folder).items()
        if not re.search("[가-힣]", korean)
        and len(re.findall("[a-z]{3,}", NAMES.sub("", english))) > 1
    ]
    assert same == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_sentence_has_its_korean_twice(folder):
    lines = (CATALOGUE / f"{folder}.yaml").read_text("utf-8").splitlines()
    english = [line.partition('": ')[0] for line in lines if line.startswith('"')]
    assert [one for one in english if english.count(one) > 1] == []


def test_what_two_folders_say_is_said_alike():
    merged = {}
    for folder in FOLDERS:
        for english, korean in korean_of(folder).items():
            assert merged.setdefault(english, korean) == korean
