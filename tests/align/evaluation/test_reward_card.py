"""The reward model's card on pairs small enough to count."""

from __future__ import annotations

from typing import Any

import pytest

from align.evaluation import reward_card as card_module
from align.evaluation.reward_card import ScoredPair
from align.evaluation.statistics import wilson


def reward_card(pairs: list[ScoredPair]) -> dict[str, Any]:
    return card_module.reward_card(pairs, resamples=400)


def pair(chosen: float, rejected: float, **known: object) -> ScoredPair:
    filled = {"prompt": f"{chosen} {rejected}", "chosen_length": 3, "rejected_length": 3} | known
    return ScoredPair(chosen=chosen, rejected=rejected, **filled)  # type: ignore[arg-type]


def test_accuracy_counts_a_tie_as_half() -> None:
    card = reward_card([pair(2, 1), pair(3, 1), pair(1, 1), pair(0, 1)])
    assert card["accuracy"]["mean"] == 2.5 / 4
    assert card["pairs"] == 4
    assert card["margin"] == pytest.approx((1 + 2 + 0 - 1) / 4)


def test_pairs_of_one_prompt_are_one_witness() -> None:
    card = reward_card([pair(2, 1, prompt="a"), pair(3, 1, prompt="a"), pair(0, 1, prompt="b")])
    assert card["accuracy"]["mean"] == pytest.approx(2 / 3)
    assert card["accuracy"]["n"] == 2
    again = reward_card([pair(2, 1, prompt="a")] * 40 + [pair(0, 1, prompt="b")] * 20)
    assert again["accuracy"] == pytest.approx(card["accuracy"])  # 20 times the pairs, no new prompt


def test_longer_wins_reads_lengths_only() -> None:
    card = reward_card(
        [
            pair(2, 1, chosen_length=9, rejected_length=3),
            pair(0, 1, chosen_length=9, rejected_length=4),
            pair(5, 1, chosen_length=2, rejected_length=4),
            pair(6, 1, chosen_length=4, rejected_length=4),
        ]
    )
    assert card["longer_wins"]["mean"] == pytest.approx(2.5 / 4)
    assert card["chosen_longer"]["mean"] == pytest.approx(1 / 2)
    assert card["chosen_shorter"]["mean"] == 1.0


def test_the_ceiling_is_the_mean_of_the_likelier_label() -> None:
    card = reward_card([pair(2, 1, bayes=0.9), pair(3, 1, bayes=0.3), pair(0, 1, bayes=0.8)])
    assert card["ceiling"] == pytest.approx((0.9 + 0.7 + 0.8) / 3)
    assert card["ratio"]["mean"] == pytest.approx((2 / 3) / 0.8)
    assert card["ratio"]["low"] == pytest.approx(card["accuracy"]["low"] / 0.8)


def test_one_pair_without_its_label_probability_leaves_no_ceiling() -> None:
    card = reward_card([pair(2, 1, bayes=0.9), pair(3, 1)])
    assert card["ceiling"] is None and card["ratio"] is None


def test_families_are_counted_apart() -> None:
    card = reward_card([pair(2, 1, family="b"), pair(0, 1, family="a"), pair(3, 1, family="b")])
    assert list(card["family"]) == ["a", "b"]
    assert card["family"]["b"] == wilson(2, 2)  # no bootstrap tells of a loss never seen
