"""The summary: its schema, its parts, and what is None."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from align.evaluation.summary import Groups, Scored, summarise
from tests import summaries

ESTIMATE = {"mean", "low", "high", "n"}
SLICES = {"all", "seen", "unseen", "family", "language"}
ANSWERS = {"gold", "reward", "length", "stop_rate", "distinct_2"}
POLICY = ANSWERS | {
    "kl_sequence",
    "kl_token",
    "kl_bound",
    "gold_gain",
    "reward_gain",
    "win_rate",
    "length_gain",
    "length_ratio",
    "stop_rate_gain",
    "greedy",
}
AGAINST = ("gold_gain", "reward_gain", "win_rate", "length_gain", "length_ratio", "stop_rate_gain")


def check_estimate(estimate: dict[str, Any], extra: frozenset[str] = frozenset()) -> None:
    assert set(estimate) == ESTIMATE | extra
    assert isinstance(estimate["n"], int) and estimate["n"] >= 1
    assert math.isfinite(estimate["mean"])
    if estimate["n"] > 1:
        assert estimate["low"] <= estimate["high"]


def check_slices(slices: dict[str, Any]) -> None:
    assert set(slices) == SLICES
    for part in ("all", "seen", "unseen"):
        check_estimate(slices[part])
    for key in ("family", "language"):
        for estimate in slices[key].values():
            check_estimate(estimate)
        assert sum(estimate["n"] for estimate in slices[key].values()) == slices["all"]["n"]


def test_every_policy_has_every_number_with_its_interval_and_n() -> None:
    policies = summaries.summary()["policies"]
    for name, policy in policies.items():
        assert set(policy) == POLICY
        assert set(policy["greedy"]) == ANSWERS
        for entry in (policy, policy["greedy"]):
            check_slices(entry["gold"])
            check_slices(entry["reward"])
            check_estimate(entry["length"])
            check_estimate(entry["stop_rate"])
            assert 0 <= entry["distinct_2"] <= 1
        check_estimate(policy["kl_sequence"])
        check_estimate(policy["kl_token"])
        if name == "sft":
            assert [policy[key] for key in AGAINST] == [None] * len(AGAINST)
        else:
            for key in ("length_gain", "length_ratio", "stop_rate_gain"):
                check_estimate(policy[key])
            check_slices(policy["gold_gain"])
            check_slices(policy["reward_gain"])
            check_estimate(policy["win_rate"], frozenset({"ties", "judge"}))
            assert policy["win_rate"]["judge"] == "gold"


def test_the_summary_is_json_without_nan() -> None:
    summary = summaries.summary(per_family=4)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def scored(gold: list[list[float]] | None, reward: list[list[float]], **given: Any) -> Scored:
    ones = np.ones_like(np.array(reward))
    return Scored(
        gold=None if gold is None else np.array(gold),
        reward=np.array(reward),
        kl=given.get("kl"),
        length=given.get("length", ones),
        stopped=ones,
        ids=[[1, 2]],
    )


def summarised(rows: list[dict[str, Any]], sft: Scored, ppo: Scored) -> dict[str, Any]:
    both = {"sft": sft, "ppo": ppo}
    return summarise(rows, both, both, resamples=50, seed=0)


def test_numbers_worked_by_hand() -> None:
    rows = [{"family": "a", "seen": True}, {"family": "b", "seen": False}]
    sft = scored([[0.0, 0.5], [1.0, 1.0]], [[0.0, 2.0], [1.0, 1.0]])
    kl, length = np.array([[3.0], [1.0]]), np.array([[6.0, 9.0], [2.0, 9.0]])
    ppo = scored([[1.0, 0.5], [1.0, 0.0]], [[3.0, 3.0], [2.0, 0.0]], kl=kl, length=length)
    found = summarised(rows, sft, ppo)["policies"]["ppo"]
    assert found["gold"]["all"]["mean"] == pytest.approx((0.75 + 0.5) / 2)
    assert found["gold_gain"]["family"]["a"]["mean"] == pytest.approx(0.75 - 0.25)
    assert found["gold_gain"]["unseen"]["mean"] == pytest.approx(0.5 - 1.0)
    assert found["reward_gain"]["all"]["mean"] == pytest.approx((2.0 + 0.0) / 2)
    # prompt a: 1 beats 0 and .5, .5 beats 0 and ties .5 → 3.5 / 4; prompt b: 2 ties, 2 losses → ¼
    assert found["win_rate"]["mean"] == pytest.approx((0.875 + 0.25) / 2)
    assert found["win_rate"]["ties"] == pytest.approx((0.25 + 0.5) / 2)
    assert found["kl_sequence"]["mean"] == pytest.approx((3 + 1) / 2)
    assert found["kl_token"]["mean"] == pytest.approx((3 + 1) / (6 + 2))  # of the answers measured


def test_length_and_stops_are_compared_prompt_by_prompt() -> None:
    """Where each prompt differs alike the interval has no width, however the prompts differ."""
    sft = scored(None, [[0.0]] * 3, length=np.array([[4.0], [10.0], [40.0]]))
    longer = scored(None, [[0.0]] * 3, length=np.array([[6.0], [15.0], [60.0]]))
    found = summarised([{}] * 3, sft, longer)["policies"]["ppo"]
    assert found["length_gain"]["mean"] == pytest.approx((2 + 5 + 20) / 3)
    assert found["length_ratio"] == pytest.approx({"mean": 1.5, "low": 1.5, "high": 1.5, "n": 3})
    assert found["length"]["high"] - found["length"]["low"] > 10
    cut = dataclasses.replace(sft, stopped=np.array([[0.0], [1.0], [1.0]]))
    assert summarised([{}] * 3, sft, cut)["policies"]["ppo"]["stop_rate_gain"]["mean"] == -1 / 3


def test_prompts_without_checks_count_for_the_reward_and_not_for_gold() -> None:
    rows = [{"family": "a"}, {"family": "a"}, {"family": "b"}]
    nan = float("nan")
    sft = scored([[0.0], [nan], [nan]], [[0.0], [0.0], [0.0]])
    ppo = scored([[1.0], [nan], [nan]], [[1.0], [1.0], [1.0]])
    found = summarised(rows, sft, ppo)
    policy = found["policies"]["ppo"]
    assert policy["gold"]["all"] == {"mean": 1.0, "low": None, "high": None, "n": 1}
    assert list(policy["gold"]["family"]) == ["a"]
    assert policy["reward"]["all"]["n"] == 3
    assert policy["win_rate"]["n"] == 1
    assert found["prompts"]["judged"] == 1
    assert policy["gold"]["seen"] is None and policy["gold"]["language"] == {}


def test_without_any_checks_the_reward_model_decides_the_win_rate() -> None:
    rows = [{}, {}]
    sft, ppo = scored(None, [[0.0], [5.0]]), scored(None, [[1.0], [5.0]])
    policy = summarised(rows, sft, ppo)["policies"]["ppo"]
    assert policy["gold"] is None and policy["gold_gain"] is None
    assert policy["win_rate"]["judge"] == "reward"
    assert policy["win_rate"]["mean"] == pytest.approx(0.75)


def test_groups_follow_the_rows() -> None:
    groups = Groups.of(
        [{"family": "b", "language": "ko", "seen": False}, {"family": "a"}, {"seen": True}]
    )
    assert groups.flat["seen"].tolist() == [2] and groups.flat["unseen"].tolist() == [0]
    assert {name: rows.tolist() for name, rows in groups.named["family"].items()} == {
        "a": [1],
        "b": [0],
    }
    kept = groups.within(np.array([False, True, True]))
    assert kept.flat["all"].tolist() == [1, 2]
    assert kept.named["language"]["ko"].tolist() == []
