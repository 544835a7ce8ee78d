"""Which prompts are shown, and rows of the tables."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from align.evaluation import summary as summary_module
from align.evaluation.summary import MEASURES, Measure
from align.messages import Sentence
from align.report import facts as facts_module
from align.report.facts import by_family, cell, numbers, scores, showcase
from tests import summaries


def test_prompts_are_chosen_evenly_over_families_and_languages_by_the_seed() -> None:
    rows = summaries.sample_rows()
    chosen = showcase(rows, count=14, seed=0)
    assert Counter(shown.row["family"] for shown in chosen) == dict.fromkeys(summaries.FAMILIES, 2)
    assert Counter(shown.row["language"] for shown in chosen) == {"ko": 7, "en": 7}
    assert len({shown.row["id"] + shown.row["family"] for shown in chosen}) == 14
    again = showcase(list(reversed(rows)), count=14, seed=0)
    assert [s.row["family"] for s in showcase(rows, count=14, seed=0)] == [
        s.row["family"] for s in chosen
    ]
    assert len(again) == 14
    assert len(showcase(rows[:3], count=12, seed=0)) == 3
    assert showcase(rows, count=0, seed=0) == []


def test_rows_without_family_or_language_can_be_shown() -> None:
    row = summaries.sample_rows()[0] | {"family": None, "language": None, "seen": None}
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    shown = showcase([row | {"prompt": turns}], count=2, seed=0)
    assert shown[0].tags == []
    assert shown[0].prompt == "system: Be kind.\nuser: Hi"


def test_every_line_has_a_cell_for_every_policy() -> None:
    summary = summaries.summary()
    lines = [line for table in numbers(summary) for line in table.lines]
    lines += by_family(summary, "gold") + by_family(summary, "gold_gain")
    assert all(len(line.cells) == 4 for line in lines)
    gains = by_family(summary, "gold_gain")
    assert {line.label for line in gains} == set(summaries.FAMILIES)
    assert all(line.cells[1] == ("–", "") for line in gains)  # SFT against itself
    assert by_family(summaries.summary(gold=False), "gold") == []


def test_a_new_measure_of_the_responses_is_one_row_of_one_table(monkeypatch: Any) -> None:
    """In the summary with its paired difference, and in the report's tables: nothing else knows."""
    new = Measure(
        "first_token", Sentence("first token"), Sentence("id"), lambda one: one.length + 1, digits=0
    )
    for module in (summary_module, facts_module):
        monkeypatch.setattr(module, "MEASURES", (*MEASURES, new))
    summaries._summary.cache_clear()
    found = summaries.summary(per_family=4)
    summaries._summary.cache_clear()
    ppo = found["policies"]["ppo"]
    assert ppo["first_token"]["mean"] == pytest.approx(ppo["length"]["mean"] + 1)
    assert ppo["first_token_gain"] == pytest.approx(ppo["length_gain"])
    assert found["policies"]["sft"]["first_token_gain"] is None
    labels = [(table.title, line.label) for table in numbers(found) for line in table.lines]
    assert ("The answers", "first token") in labels
    assert ("Against SFT, on the same prompts", "first token, difference") in labels


def test_cell_parts_mean_and_interval() -> None:
    assert cell({"mean": 0.5, "low": 0.4, "high": 0.6, "n": 9}) == ("0.50", "[0.40, 0.60]")
    assert cell({"mean": 0.5, "low": None, "high": None, "n": 1}) == ("0.50", "(n = 1)")


def test_scores_of_an_answer() -> None:
    answer = {"gold": 0.87, "reward": -1.2, "tokens": 14, "stopped": False}
    assert scores(answer).replace("\u00a0", " ") == "gold 0.87 · reward −1.20 · 14 tokens, cut"
    plain = scores(answer | {"gold": None, "stopped": True})
    assert plain == "reward\u00a0−1.20\u00a0· 14\u00a0tokens"  # breaks between facts only
