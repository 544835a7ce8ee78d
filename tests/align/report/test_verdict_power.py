"""How often the verdict is right, on evaluations drawn with a known truth."""

from __future__ import annotations

from typing import Any

import numpy as np

from align.evaluation.statistics import bootstrap
from align.evaluation.summary import Scored, summarise
from align.report.costs import change
from align.report.verdict import verdict

DIFFICULTY, NOISE = 0.274, 0.136
"""Standard deviation over prompts: of SFT's gold, and of the mean of a policy's samples about its
own gold on a prompt. The difference of two policies then has 0.136 √2 = 0.193, at which a true gain
of .04 on 480 prompts is found with 99.5 % by its own interval, and with 4.5 % by two that do not
touch (review, 2026-11-21)."""


def gain_of(true: float, rng: np.random.Generator, prompts: int = 480) -> np.ndarray:
    """Differences to SFT, prompt by prompt, of a policy that is better by `true`."""
    sft, policy = rng.normal([[0.0], [true]], NOISE, size=(2, prompts))
    found: np.ndarray = policy - sft
    return found


def rate(said: str, true: float, trials: int = 300) -> float:
    rng = np.random.default_rng(11)
    found = [bootstrap(gain_of(true, rng), resamples=200, seed=trial) for trial in range(trials)]
    return float(np.mean([change(gain) == said for gain in found]))


def test_a_gain_of_4_points_is_found_on_480_prompts() -> None:
    assert rate("better", 0.04) >= 0.95


def test_a_policy_like_sft_is_called_better_or_worse_in_one_run_of_twenty() -> None:
    margin = 3 * (0.025 * 0.975 / 300) ** 0.5
    assert rate("better", 0.0) <= 0.025 + margin <= 0.055
    assert rate("worse", 0.0) <= 0.025 + margin


def world(rng: np.random.Generator, fall: float = 0.0) -> dict[str, Any]:
    """SFT and a PPO like it but for `fall` of gold in one of 15 families of 32 prompts."""
    families = ["dangerous", "harmless", *(f"family {i}" for i in range(13))]
    rows = [{"family": family, "seen": i % 2 == 0} for i in range(32) for family in families]
    hard = rng.normal(0.55, DIFFICULTY, size=(480, 1))
    lost = np.array([[fall * (row["family"] == "family 0")] for row in rows])

    def policy(mean: np.ndarray) -> Scored:
        gold = mean + rng.normal(0, NOISE, size=(480, 1))
        return Scored(
            gold=gold,
            reward=gold,
            kl=rng.gamma(4, 1, size=(480, 1)),
            length=rng.integers(6, 30, size=(480, 1)).astype(float),
            stopped=(rng.random((480, 1)) < 0.9).astype(float),
            ids=[[1, 2, 3]],
        )

    both = {"sft": policy(hard), "ppo": policy(hard - lost)}
    return summarise(rows, both, both, resamples=100, seed=0)


def test_a_policy_like_sft_is_seldom_said_to_cost_anything() -> None:
    """Of 15 families one or another falls by more than .05 in the mean of nearly every run."""
    rng = np.random.default_rng(5)
    found = [verdict(world(rng)) for _ in range(40)]
    assert np.mean([bool(one.costs) for one in found]) <= 0.05 + 3 * (0.05 * 0.95 / 40) ** 0.5
    assert np.mean([bool(one.not_shown) for one in found]) > 0.5


def test_a_family_that_loses_a_fifth_is_named() -> None:
    rng = np.random.default_rng(6)
    named = [any("family 0" in cost for cost in verdict(world(rng, 0.2)).costs) for _ in range(20)]
    assert sum(named) >= 18


def test_two_prompts_decide_nothing() -> None:
    def scored(gold: float) -> Scored:
        ones = np.ones((2, 1))
        return Scored(gold * ones, gold * ones, ones, ones, ones, [[1]])

    both = {"sft": scored(0.0), "ppo": scored(1.0)}
    found = verdict(summarise([{"seen": False}] * 2, both, both, resamples=50, seed=0))
    assert found.headline == "Not decided: the prompts cannot tell."
    assert found.sentences == (
        "On 2 held-out prompts the rule judge gives SFT 0.00 [0.00, 0.00]; "
        "PPO 1.00, not decided (+1.00 on 2 prompts, fewer than 20).",
        "On templates that no training split had, PPO is not decided "
        "(+1.00 on 2 prompts, fewer than 20).",
        "Fewer than 20 prompts cannot show a cost either.",
    )
