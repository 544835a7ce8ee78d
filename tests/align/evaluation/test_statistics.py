"""Intervals against closed forms and known coverage; win rate, Wilson and distinct-2 by hand."""

from __future__ import annotations

import numpy as np
import pytest

from align.evaluation.statistics import (
    bootstrap,
    clustered_share,
    distinct,
    expanded_tail,
    student,
    wilson,
    wins,
)


def test_bootstrap_is_the_closed_form_for_many_prompts() -> None:
    values = np.random.default_rng(0).normal(2.0, 3.0, size=2000)
    found = bootstrap(values, resamples=20_000)
    half = 1.96 * values.std() / np.sqrt(2000)
    assert found["mean"] == pytest.approx(values.mean(), abs=1e-12)
    assert found["low"] == pytest.approx(values.mean() - half, abs=0.02 * half)
    assert found["high"] == pytest.approx(values.mean() + half, abs=0.02 * half)
    assert found["n"] == 2000


@pytest.mark.parametrize("prompts", [8, 32])
def test_bootstrap_covers_the_truth_in_95_of_100_small_samples(prompts: int) -> None:
    rng = np.random.default_rng(1)
    covered = 0  # plain percentiles reach .88 of 1000 at 8 prompts
    for trial in range(600):
        found = bootstrap(rng.normal(0.5, 0.2, size=prompts), resamples=300, seed=trial)
        assert found["low"] is not None and found["high"] is not None
        covered += found["low"] <= 0.5 <= found["high"]
    assert 0.92 <= covered / 600 <= 0.98  # 0.95 ± 3 standard errors


def test_bootstrap_is_the_same_for_the_same_seed_in_any_block_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(0).random(50)
    first = bootstrap(values, resamples=300, seed=4)
    assert bootstrap(values, resamples=300, seed=4) == first
    assert bootstrap(values, resamples=300, seed=5) != first
    monkeypatch.setattr("align.evaluation.statistics.RESAMPLED_AT_ONCE", 1000)
    assert bootstrap(values, resamples=300, seed=4) == first


def test_bootstrap_of_a_ratio_weighs_prompts_by_their_tokens() -> None:
    found = bootstrap(np.array([2.0, 6.0]), np.array([1.0, 3.0]), resamples=50)
    assert found == {"mean": 2.0, "low": 2.0, "high": 2.0, "n": 2}
    assert bootstrap(np.array([1.0, 9.0]), np.array([1.0, 4.0]), resamples=50)["mean"] == 2.0


def test_one_prompt_gives_a_mean_and_no_interval() -> None:
    found = bootstrap(np.array([0.25]), resamples=10)
    assert found == {"mean": 0.25, "low": None, "high": None, "n": 1}
    with pytest.raises(ValueError, match="at least one prompt"):
        bootstrap(np.array([]), resamples=10)


@pytest.mark.parametrize(
    ("degrees", "point"), [(3, 3.1824), (7, 2.3646), (31, 2.0395), (479, 1.9649)]
)
def test_student_matches_the_tables(degrees: int, point: float) -> None:
    assert student(degrees) == pytest.approx(point, rel=2e-3)


@pytest.mark.parametrize(("n", "tail"), [(8, 0.00574), (32, 0.01913), (100_000, 0.025)])
def test_the_tail_left_out_shrinks_for_few_prompts(n: int, tail: float) -> None:
    # n = 8: Φ(−2.3646 √(8/7)) = Φ(−2.5279); n = 32: Φ(−2.0395 √(32/31)) = Φ(−2.0721)
    assert expanded_tail(n) == pytest.approx(tail, rel=5e-3)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (5, 10, 0.2366, 0.7634),
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0000),
    ],
)
def test_wilson_literals(successes: int, n: int, low: float, high: float) -> None:
    # 5 of 10: z² = 3.8415; (5 + 1.9207 ± 1.96 √(2.5 + 0.9604)) / 13.8415 = 0.5 ± 0.2634.
    # Next four: Newcombe 1998, Stat. Med. 17, 857–872, table I. The last mirrors 0 of 20.
    found = wilson(successes, n)
    assert found["low"] == pytest.approx(low, abs=5e-5)
    assert found["high"] == pytest.approx(high, abs=5e-5)


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 4), (5, 4)])
def test_wilson_refuses_what_is_no_share(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="must lie between"):
        wilson(successes, n)


def clusters(
    kind: str, share: float, prompts: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Successes and trials of each prompt, of which the expected share of successes is `share`."""
    if kind == "alike":  # every tenth prompt has 20 pairs, and the pairs of a prompt agree
        trials = np.where(rng.random(prompts) < 0.1, 20.0, 1.0)
        return trials * (rng.random(prompts) < share), trials
    trials = rng.integers(1, 5, size=prompts).astype(float)  # prompts differ in difficulty
    easy = rng.beta(2 * share, 2 * (1 - share), size=prompts)
    return rng.binomial(trials.astype(int), easy).astype(float), trials


@pytest.mark.parametrize("kind", ["alike", "differing"])
@pytest.mark.parametrize(("share", "prompts"), [(0.7, 100), (0.9, 100), (0.9, 30), (0.97, 300)])
def test_a_share_over_clusters_covers_the_truth_in_95_of_100_samples(
    kind: str, share: float, prompts: int
) -> None:
    rng = np.random.default_rng(1)
    covered = 0  # Wilson's for the number of prompts: .58 of `alike`; the bootstrap alone: .49
    for trial in range(300):
        drawn = clusters(kind, share, prompts, rng)
        found = clustered_share(*drawn, resamples=200, seed=trial)
        assert found["low"] is not None and found["high"] is not None
        covered += found["low"] <= share <= found["high"]
    assert covered / 300 >= 0.95 - 3 * (0.95 * 0.05 / 300) ** 0.5


def test_a_share_over_clusters_of_one_trial_each_is_a_share_of_trials() -> None:
    ones = np.ones(2000)
    points = (np.arange(2000) < 1400).astype(float)
    found, plain = clustered_share(points, ones, resamples=4000), wilson(1400, 2000)
    assert found["mean"] == plain["mean"] == 0.7 and found["n"] == 2000
    assert found["low"] == pytest.approx(plain["low"], abs=0.001)
    assert found["high"] == pytest.approx(plain["high"], abs=0.001)


def test_a_share_over_clusters_knows_how_few_they_are_when_all_agree() -> None:
    # every draw of the bootstrap is 1; 4 and 1 pairs count as (4 + 1)² / (4² + 1²) = 25/17 prompts
    found = clustered_share(np.array([4.0, 1.0]), np.array([4.0, 1.0]), resamples=50)
    assert (found["mean"], found["high"], found["n"]) == (1.0, 1.0, 2)
    assert found["low"] == pytest.approx((25 / 17) / (25 / 17 + 3.8415), rel=1e-4)


def test_win_rate_counts_wins_and_half_of_the_ties_within_each_prompt() -> None:
    # prompt 0: 1 > 0, 1 = 1, ½ > 0, ½ < 1 → 2 wins, 1 tie of 4 → (2 + ½) / 4
    # prompt 1: all equal → ½; prompt 2: never → 0
    mine = np.array([[1.0, 0.5], [0.3, 0.3], [0.0, 0.1]])
    theirs = np.array([[0.0, 1.0], [0.3, 0.3], [0.9, 0.8]])
    points, ties = wins(mine, theirs)
    assert points.tolist() == [0.625, 0.5, 0.0]
    assert ties.tolist() == [0.25, 1.0, 0.0]
    assert (wins(theirs, mine)[0] + points).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("responses", "share"),
    [
        ([[1, 2, 1, 2]], 2 / 3),  # 12 21 12
        ([[1, 2], [1, 2]], 1 / 2),
        ([[1, 2], [2, 1]], 1.0),  # pairs do not cross answers: 22 is none
        ([[7], []], 0.0),
        ([[5, 5, 5, 5]], 1 / 3),
    ],
)
def test_distinct_2_literals(responses: list[list[int]], share: float) -> None:
    assert distinct(responses) == pytest.approx(share, abs=1e-12)
