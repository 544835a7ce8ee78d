"""Best-of-n: its KL bound, its picks, its curve without bias, and others held against it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from align.evaluation.best_of_n import at_kl, compare, expected, kl_bound, picks
from align.evaluation.statistics import Estimate, Floats, bootstrap


def estimate(values: Floats) -> Estimate:
    return bootstrap(values[~np.isnan(values)], resamples=50)


@pytest.mark.parametrize(
    ("n", "nats"),
    [
        (1, 0.0),
        (2, 0.693147 - 0.5),
        (4, 1.386294 - 0.75),
        (8, 2.079442 - 0.875),
        (32, 3.465736 - 0.96875),
    ],
)
def test_the_bound_by_hand(n: int, nats: float) -> None:
    assert kl_bound(n) == pytest.approx(nats, abs=1e-6)


def kl_of_best_of(n: int, probabilities: Floats) -> float:
    """Exact: of outcomes in the order of their reward, the i-th is best with Fᵢⁿ − Fᵢ₋₁ⁿ."""
    cumulative = np.concatenate([[0.0], probabilities.cumsum()])
    best = np.diff(cumulative**n)
    return float((best * np.log(best / probabilities)).sum())


@pytest.mark.parametrize("n", [1, 2, 8, 32])
def test_no_distribution_of_answers_exceeds_the_bound_and_one_without_repeats_reaches_it(
    n: int,
) -> None:
    rng = np.random.default_rng(n)
    for size in (1, 2, 5, 50):
        weights = rng.exponential(size=size) ** 3
        assert kl_of_best_of(n, weights / weights.sum()) <= kl_bound(n) + 1e-12
    assert kl_of_best_of(n, np.full(100_000, 1e-5)) == pytest.approx(kl_bound(n), abs=1e-3)


def test_the_best_of_each_n_is_picked_and_the_first_of_equals() -> None:
    rewards = [[0.1, 0.9, 0.5, 0.5, -1.0, -2.0], [3.0, 2.0, 1.0, 0.0, 1.0, 1.0]]
    assert picks(rewards, 1) == [[0, 1, 2, 3, 4, 5]] * 2
    assert picks(rewards, 2) == [[1, 2, 4], [0, 2, 4]]
    assert picks(rewards, 3) == [[1, 3], [0, 4]]
    assert picks(rewards, 6) == [[1], [0]]


def test_the_expected_pick_by_hand() -> None:
    # By reward: 10, 20, 30. Of two: max of {10, 20}, {10, 30}, {20, 30}.
    curve = expected(np.array([[10.0, 30.0, 20.0]]), np.array([[-1.0, 5.0, 0.0]]))
    np.testing.assert_allclose(curve, [[20.0], [80 / 3], [30.0]])


def test_the_expected_pick_is_the_mean_over_every_choice_of_k() -> None:
    rng = np.random.default_rng(0)
    values, rewards = rng.normal(size=(2, 3, 7))
    curve = expected(values, rewards)
    assert curve.shape == (7, 3)
    for k in range(1, 8):
        for p in range(3):
            chosen = itertools.combinations(range(7), k)
            means = [values[p][max(some, key=lambda i, p=p: rewards[p][i])] for some in chosen]
            assert curve[k - 1, p] == pytest.approx(np.mean(means))


def test_a_curve_is_read_between_whole_numbers_and_not_beyond_its_end() -> None:
    curve = np.array([[0.0, 1.0], [1.0, 1.0], [4.0, 0.0]])
    two, three = kl_bound(2), kl_bound(3)
    for kl, expected_there in (
        (0.0, [0.0, 1.0]),
        (two, [1.0, 1.0]),
        ((two + three) / 2, [2.5, 0.5]),
        (three, [4.0, 0.0]),
    ):
        there = at_kl(curve, kl)
        assert there is not None
        np.testing.assert_allclose(there, expected_there)
    assert at_kl(curve, three + 1e-9) is None


def test_policies_are_held_against_the_curve_at_their_own_kl_prompt_by_prompt() -> None:
    rng = np.random.default_rng(1)
    reward = rng.normal(size=(40, 4))
    gold = np.where(rng.random((40, 1)) < 0.2, np.nan, reward / 2)
    pool = {"reward": reward, "gold": gold}
    at_two = {key: expected(values, reward)[1] for key, values in pool.items()}
    found = compare(
        pool,
        {
            "ppo": (kl_bound(2), {key: mean + 0.25 for key, mean in at_two.items()}),
            "dpo": (9.0, at_two),
        },
        estimate,
    )
    assert found["drawn"] == 4
    assert [point["n"] for point in found["curve"]] == [1, 2, 4]
    assert [point["kl_bound"] for point in found["curve"]] == [kl_bound(n) for n in (1, 2, 4)]
    first = found["curve"][0]
    assert first["reward"]["mean"] == pytest.approx(reward.mean())
    assert first["gold"]["n"] == int((~np.isnan(gold[:, 0])).sum()) < 40
    assert found["curve"][-1]["reward"]["mean"] == pytest.approx(reward.max(axis=1).mean())
    # The same 0.25 at every prompt: paired, so the interval has no width.
    for key in ("reward", "gold"):
        ahead = found["against"]["ppo"][key]
        assert (ahead["mean"], ahead["low"], ahead["high"]) == pytest.approx((0.25,) * 3)
    assert found["against"]["dpo"] is None


def test_a_pool_that_is_no_power_of_two_is_drawn_to_its_end() -> None:
    reward = np.arange(12.0).reshape(2, 6)
    found = compare({"reward": reward}, {}, estimate)
    assert [point["n"] for point in found["curve"]] == [1, 2, 4, 6]
    assert math.isclose(found["curve"][-1]["reward"]["mean"], 8.0)
