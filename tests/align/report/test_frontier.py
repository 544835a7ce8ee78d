"""Gold and reward against KL: places, table, and what is said of a policy beside best-of-n."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from align.report.frontier import HEIGHT, panels, rows, words
from align.report.text import interval
from tests import summaries


@pytest.fixture
def summary() -> dict[str, Any]:
    return summaries.summary(summaries.EVERY)


def test_every_policy_but_the_base_has_its_place_in_both_panels(summary: dict[str, Any]) -> None:
    gold, reward = panels(summary)
    assert (gold.title, reward.title) == ("gold", "reward")
    for panel in (gold, reward):
        assert [p.policy for p in panel.points] == [k for k in summaries.EVERY if k != "base"]
        for point in panel.points:
            assert point.across[0] <= point.x <= point.across[1]
            assert point.upwards[0] >= point.y >= point.upwards[1]  # pixels count downwards
            assert HEIGHT >= point.upwards[0] >= point.upwards[1] >= 0
    sft = gold.points[0]
    assert sft.across == (1.5, 1.5)  # no distance from itself
    ppo = next(p for p in gold.points if p.policy == "ppo")
    kl, found = (summary["policies"]["ppo"][k] for k in ("kl_sequence", "gold"))
    assert ppo.across == (gold.axis.place(kl["low"]), gold.axis.place(kl["high"]))
    assert interval(found["all"]) in ppo.title
    best = next(p for p in gold.points if p.policy == "best_of_n")
    assert best.across == (best.x, best.x) and "≤ 1.2" in best.title


def test_the_curve_leads_from_each_n_to_the_next(summary: dict[str, Any]) -> None:
    gold, _ = panels(summary)
    assert [stop.label for stop in gold.stops] == ["", "2", "4", "8", "16", "32"]
    assert gold.stops[0].before is None
    for one, following in zip(gold.stops, gold.stops[1:], strict=False):
        assert following.before == (one.x, one.y)
        assert following.x > one.x and following.y < one.y  # more gold for more answers


def test_a_mean_at_the_top_of_the_axis_is_drawn_at_the_top() -> None:
    found = summaries.summary({"sft": 0.5, "ppo": 0.7}, per_family=2)
    policies = found["policies"]
    for key, mean in (("sft", 0.0), ("ppo", 1.0)):
        policies[key]["gold"]["all"] = {"mean": mean, "low": None, "high": None, "n": 1}
    gold = panels(found)[0]
    assert [point.y for point in gold.points] == [HEIGHT, 0.0]
    assert gold.heights[0] == (HEIGHT, "0.0")
    assert gold.stops == []


def lead(mean: float, half: float = 0.02) -> dict[str, Any]:
    gold = {"mean": mean, "low": mean - half, "high": mean + half, "n": 9}
    return {"gold": gold, "reward": {"mean": 1.0, "low": 0.9, "high": 1.1, "n": 9}}


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (lead(0.05), "PPO lies above the best-of-n curve at its KL of 1.5 nats: "),
        (lead(-0.05), "PPO lies below the best-of-n curve at its KL of 1.5 nats: "),
        (lead(0.01), "PPO cannot be told from best-of-n at its KL of 1.5 nats: "),
        (None, "PPO is 1.5 nats from SFT, farther than best of 32 (2.5), where the curve ends."),
    ],
)
def test_what_is_said_of_a_policy_beside_best_of_n(
    summary: dict[str, Any], ahead: dict[str, Any] | None, said: str
) -> None:
    told = copy.deepcopy(summary)
    told["policies"]["ppo"]["kl_sequence"]["mean"] = 1.5
    told["best_of_n"]["against"] = {"ppo": ahead}
    (sentence,) = words(told)
    assert sentence.startswith(said)
    if ahead is not None:
        numbers = f"gold {interval(ahead['gold'], sign=True)}, reward +1.00 [+0.90, +1.10]."
        assert sentence == said + numbers


def test_the_table_holds_policies_and_curve(summary: dict[str, Any]) -> None:
    table = rows(summary)
    labels = [line[0] for line in table]
    assert labels[:3] == ["SFT", "DPO", "KTO"] and labels[-1] == "best of 32"
    assert {len(line) for line in table} == {6}
    rloo = next(line for line in table if line[0] == "RLOO")
    ahead = summary["best_of_n"]["against"]["rloo"]
    expected = "–" if ahead is None else interval(ahead["gold"], sign=True)
    assert rloo[4] == expected
    two = next(line for line in table if line[0] == "best of 2")
    assert two[1] == "≤ 0.2" and two[4:] == ("", "")


def test_without_best_of_n_there_is_the_picture_and_nothing_is_said() -> None:
    found = summaries.summary()
    assert words(found) == []
    assert len(panels(found)) == 2
    assert {len(line) for line in rows(found)} == {4}


def test_with_sft_alone_there_is_no_picture() -> None:
    assert panels(summaries.summary({"base": 0.1, "sft": 0.5}, per_family=2)) == []


def test_without_gold_the_reward_is_what_counts() -> None:
    found = summaries.summary(summaries.EVERY, gold=False, per_family=4)
    assert [panel.title for panel in panels(found)] == ["reward"]
    assert all("gold" not in sentence for sentence in words(found))
