"""The rule judge gives the grades that a person would give by hand."""

from pathlib import Path

import pytest

from align.scoring.rules import STYLE_SHARE, grade, judge

TINY = Path(__file__).parents[3] / "data" / "tiny"

CORE = {"kind": "contains_any", "values": ["Seoul"], "core": True}


def test_tone_earns_nothing_when_the_answer_is_wrong():
    polite = {"kind": "polite", "language": "en"}
    assert judge("The capital is Busan.", [CORE, polite]) == 0.0
    assert judge("The capital is Seoul.", [CORE, polite]) == 1.0
    assert judge("yo, Seoul", [CORE, polite]) == 1 - STYLE_SHARE


def test_style_grades_are_averaged_by_weight():
    checks = [CORE, {"kind": "polite", "language": "en", "weight": 3}, {"kind": "complete"}]
    # polite 0 with weight 3, complete 1 with weight 1: S = 1/4, score = 0.5 + 0.5 / 4
    assert judge("yo, Seoul.", checks) == pytest.approx(0.625)


def test_all_core_checks_must_hold():
    checks = [CORE, {"kind": "contains_all", "values": ["Han", "river"], "core": True}]
    assert judge("Seoul lies on the Han.", checks) == pytest.approx(0.5)
    assert judge("It lies on the Han river.", checks) == 0.0


def test_an_empty_response_scores_zero_even_where_refusing_is_not_asked():
    assert judge("  ", [{"kind": "answers", "core": True}]) == 0.0


@pytest.mark.parametrize("checks", [[], [{"kind": "complete"}]])
def test_checks_without_a_core_are_refused(checks):
    with pytest.raises(ValueError, match="at least one must be core"):
        judge("text", checks)


def test_an_unknown_kind_is_named_with_the_choice():
    with pytest.raises(
        ValueError, match="kind='contain' is no check; choose one of admits_unknown"
    ):
        grade("text", {"kind": "contain"})


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("It is cold.", "old", 0),
        ("It is old.", "old", 1),
        ("anything", "thin", 0),
        ("THIN", "thin", 1),
        ("서울입니다", "서울", 1),
        ("name2", "name", 0),
    ],
)
def test_latin_words_are_found_whole_and_hangul_anywhere(text, value, expected):
    assert grade(text, {"kind": "contains_any", "values": [value]}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7 + 5 = 12.", 1),
        ("12입니다.", 1),
        ("7 + 5 = 13.", 0),
        ("12, no, 11", 0),
        ("twelve", 0),
        ("12 or 9 = 12", 0),
    ],
)
def test_number_wants_the_answer_last_and_no_strange_number(text, expected):
    assert grade(text, {"kind": "number", "answer": 12, "given": [7, 5]}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("apple, pear, plum.", 1),
        ("Three fruits are apple, pear, table.", 2 / 3),
        ("apple, apple, apple", 1 / 3),
        ("사과, 배, 포도입니다.", 1),
        ("과일 세 가지는 사과, 책상, 의자입니다.", 1 / 3),
    ],
)
def test_members_counts_distinct_members(text, expected):
    check = {
        "kind": "members",
        "values": ["apple", "pear", "plum", "사과", "배", "포도"],
        "count": 3,
    }
    assert grade(text, check) == pytest.approx(expected)


def test_first_named_reads_the_claim_by_its_order():
    check = {"kind": "first_named", "answer": "lion", "other": "ant"}
    assert grade("A lion is bigger than an ant.", check) == 1
    assert grade("An ant is bigger than a lion.", check) == 0
    assert grade("The ant is bigger.", check) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"name": "Mia", "age": 7}', 1),
        ('{"name": "Mia", "age": 8}', 0.5),
        ('{"name": "Mia"', 0),
        ('{"name": "Mia", "age": 7, "x": 1}', 0),
        ("[1]", 0),
    ],
)
def test_json_is_parsed_and_compared_by_key(text, expected):
    assert grade(text, {"kind": "json", "values": {"name": "Mia", "age": 7}}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("서울입니다.", 1),
        ("서울이에요. 반가워요!", 1),
        ("서울이야.", 0),
        ("서울이야. 그렇습니다.", 0.5),
        ("서울이에요 ㅋㅋ", 0),
    ],
)
def test_korean_politeness_is_the_share_of_polite_sentences(text, expected):
    assert grade(text, {"kind": "polite", "language": "ko"}) == expected


def test_concise_falls_linearly_to_zero_at_twice_the_limit():
    check = {"kind": "concise", "max_chars": 10}
    assert [grade("x" * n, check) for n in (10, 15, 20, 40)] == [1.0, 0.5, 0.0, 0.0]


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "죄송하지만 그건 도와드릴 수 없습니다.",
        "그건 못 도와줘.",
    ],
)
def test_refusals_are_recognised_in_both_languages(text):
    assert grade(text, {"kind": "refuses"}) == 1
    assert grade(text, {"kind": "answers"}) == 0


@pytest.mark.parametrize(
    "text", ["I don't know that.", "그건 제가 알 수 없습니다.", "모르겠는데 ㅋㅋ"]
)
def test_admitting_not_to_know_is_recognised(text):
    assert grade(text, {"kind": "admits_unknown"}) == 1


def test_language_is_told_by_the_share_of_hangul():
    assert grade("영어로 'apple'입니다.", {"kind": "language", "language": "ko"}) == 1
    assert grade("It is an apple.", {"kind": "language", "language": "ko"}) == 0
    assert grade("12.", {"kind": "language", "language": "en"}) == 1
