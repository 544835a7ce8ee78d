"""Checks are data: what the judge could not use on some answer is refused before any answer."""

import json
from pathlib import Path

import pytest

from align.config import DataSource
from align.messages.errors import DataError
from align.scoring import patterns
from align.scoring.checks import load_checked_prompts, require_usable
from align.scoring.rules import KINDS, judge

TINY = Path(__file__).parents[3] / "data" / "tiny"
CORE = {"kind": "refuses", "core": True}


@pytest.mark.parametrize(
    ("check", "told"),
    [
        ({"kind": "number"}, "number: answer=None should be a whole number"),
        ({"kind": "first_named", "answer": "cat"}, "first_named: other=None should be a text"),
        ({"kind": "json", "values": {}}, r"json: values=\{\} should be a mapping"),
        ({"kind": "contains_all", "values": []}, r"contains_all: values=\[\] should be a list"),
        ({"kind": "contains_any", "values": [5]}, r"values=\[5\] should hold texts"),
        ({"kind": "concise", "max_chars": 0}, "concise: max_chars=0 should be a whole number"),
        ({"kind": "regex", "pattern": "("}, r"pattern='\(': missing \)"),
        ({"kind": "refuses", "weight": 0}, "refuses: weight=0 should be a number above 0"),
        ({"kind": "concize"}, "kind='concize' is no check; choose one of"),
    ],
)
def test_checks_that_some_response_would_break_on_are_refused_beforehand(check, told):
    with pytest.raises(ValueError, match=told):
        require_usable([{"kind": "refuses", "core": True}, check])


def test_checks_need_a_core():
    with pytest.raises(ValueError, match="at least one must be core"):
        require_usable([{"kind": "refuses"}])


def test_the_checks_of_the_embedded_world_are_usable():
    rows = (TINY / "evaluation.test.jsonl").read_text("utf-8").splitlines()
    for row in rows:
        require_usable(json.loads(row)["checks"])


BAD = [
    {},
    {"kind": None},
    {"kind": []},
    {"kind": {}},
    {"kind": 5},
    {"kind": "regex", "pattern": 5},
    {"kind": "regex", "pattern": "a{5,2}"},
    {"kind": "regex", "pattern": "(" * 2000},
    {"kind": "regex", "pattern": "a" * 1001},
    {"kind": "number", "answer": True},
    {"kind": "number", "answer": -1},
    {"kind": "number", "answer": 1.0},
    {"kind": "number", "answer": "5"},
    {"kind": "number", "answer": 5, "given": 5},
    {"kind": "number", "answer": 5, "given": "5"},
    {"kind": "number", "answer": 5, "given": ["5"]},
    {"kind": "number", "answer": 5, "given": [[5]]},
    {"kind": "number", "answer": 5, "given": None},
    {"kind": "members", "values": ["a"], "count": -1},
    {"kind": "members", "values": ["a"], "count": 0},
    {"kind": "members", "values": "ab", "count": 1},
    {"kind": "members", "values": [None], "count": 1},
    {"kind": "contains_any", "values": [""]},
    {"kind": "contains_any", "values": {"a": 1}},
    {"kind": "excludes", "values": [["a"]]},
    {"kind": "first_named", "answer": "", "other": "b"},
    {"kind": "first_named", "answer": "a", "other": 1},
    {"kind": "json", "values": ["a"]},
    {"kind": "polite", "language": "de"},
    {"kind": "language", "language": ["en"]},
    {"kind": "concise", "max_chars": -5},
    {"kind": "concise", "max_chars": "5"},
    {"kind": "concise", "max_chars": float("nan")},
    {"kind": "complete", "weight": float("nan")},
    {"kind": "complete", "weight": float("inf")},
    {"kind": "complete", "weight": "2"},
    {"kind": "complete", "weight": 1e308},
    {"kind": "complete", "weight": 10**400},
    {"kind": "complete", "weight": None},
    {"kind": "complete", "weight": [1]},
    {"kind": "complete", "weight": True},
    {"kind": "complete", "core": "yes"},
    {"kind": "complete", "core": 1},
]


@pytest.mark.parametrize("check", BAD, ids=range(len(BAD)))
def test_every_bad_check_is_told_with_its_file_and_line(tmp_path, check):
    file = tmp_path / "evaluation.jsonl"
    good = {"prompt": "a", "checks": [CORE]}
    bad = {"prompt": "b", "checks": [CORE, check]}
    file.write_text("\n".join(map(json.dumps, (good, bad))))
    with pytest.raises(DataError) as told:
        load_checked_prompts(DataSource(path=str(file)))
    assert str(told.value).startswith(f"{file}:2: checks: ")
    assert "\n" not in str(told.value)


HANGING = [
    r"(a+)+$",
    r"(a|a)*$",
    r"(a|aa)+$",
    r"((a*)*)*b",
    r"(\w+\s?)+$",
    r"^(\d+)*$",
    r"(가+)+나",
    r"(x+x+)+y",
    r"(?:(?:(?:a{1,100}){1,100}){1,100}){1,100}b",
    r"((((((a?){9}){9}){9}){9}){9}){9}b",
]


@pytest.mark.parametrize("pattern", HANGING)
def test_a_pattern_that_would_take_years_is_refused_beforehand(monkeypatch, pattern):
    monkeypatch.setattr(patterns, "SECONDS", 0.05)
    told = patterns.fault.__wrapped__(pattern)
    assert told is not None
    assert told.startswith("takes more than 0.05 s on 40 times")


def test_a_search_that_takes_too_long_finds_nothing(monkeypatch):
    monkeypatch.setattr(patterns, "SECONDS", 0.05)
    assert judge("q" * 60 + "!", [{"kind": "regex", "pattern": "(q|q)*$", "core": True}]) == 0.0
    assert judge("q" * 60, [{"kind": "regex", "pattern": "(q|q)*$", "core": True}]) == 1.0


USABLE = {
    "contains_any": {"values": ["서울", "Seoul"]},
    "contains_all": {"values": ["서울", "C++"]},
    "excludes": {"values": ["부산"]},
    "regex": {"pattern": r"\d+ ?(원|won)"},
    "number": {"answer": 12, "given": [5, 7]},
    "members": {"values": ["빨강", "red"], "count": 2},
    "first_named": {"answer": "고래", "other": "whale"},
    "json": {"values": {"a": 1}},
    "polite": {"language": "ko"},
    "concise": {"max_chars": 40},
    "language": {"language": "en"},
}
ANSWERS = [
    "9" * 5000,
    "٣٤٥ ² ½",
    "[" * 100_000,
    '{"a": ' * 50_000,
    '{"a": ' + "9" * 5000 + "}",
    '{"a": NaN}',
    '{"a": 1e999}',
    "a,\n,\t,b",
    ",,,::: and  and ",
    "\n",
    "\u3000,\u2028",
    "빨강,\x1b[2J",
    "\ud7a4\u0345İŉǰ",
    "~ ( ) ' \"",
    "?" * 10_000,
    "\u200b",
    "\x00",
]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_no_answer_breaks_a_usable_check(kind):
    check = {"kind": kind, "core": True, **USABLE.get(kind, {})}
    require_usable([check])
    for answer in ANSWERS:
        assert 0.0 <= judge(answer, [check]) <= 1.0


def test_a_number_of_thousands_of_digits_is_no_answer():
    check = {"kind": "number", "answer": 12, "core": True}
    assert judge("12", [check]) == 1.0
    assert judge("9" * 5000 + " 12", [check]) == 0.0


def test_the_pipeline_reads_checks_before_it_trains():
    from stages.preflight.rows import LOADERS

    for name in ("prompts", "evaluation"):
        assert LOADERS[name] is load_checked_prompts
