"""Estimates with intervals, from numbers that are already there. numpy only, no model.

Shapes: p = prompts, s = samples of one prompt. The unit that is resampled is always the prompt (or
the pair): samples of one prompt are no independent witnesses, their mean is one observation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLED_AT_ONCE = 2_000_000
"""Numbers drawn in one piece, which bounds the memory of a bootstrap over many prompts."""


class Estimate(TypedDict):
    """A mean, its 95 % interval (None where one observation cannot give any) and its n."""

    mean: float
    low: float | None
    high: float | None
    n: int


def bootstrap(
    values: Floats, weights: Floats | None = None, *, resamples: int, seed: int = 0
) -> Estimate:
    """Mean of values [p] with its bootstrap interval over prompts; Σ values / Σ weights if given.

    The percentiles are taken a little further out than 2.5 and 97.5, by the factor that makes the
    interval of a normal mean Student's instead of too short for few prompts (32 in a family).

    Args:
        values: one number per prompt, [p], p ≥ 1.
        weights: the denominators of a ratio, [p]: tokens, for nats per token.
        resamples: how many times p prompts are drawn with replacement.
        seed: equal seeds draw the same prompts, so estimates over one set of prompts are paired.

    Source: Efron 1979; expanded percentiles: Hesterberg 2015, arXiv:1411.5279, section 5.
    """
    n = len(values)
    if n == 0:
        raise ValueError("values has no entries; an estimate needs at least one prompt")
    denominators = np.ones(n) if weights is None else weights
    mean = float(values.sum() / denominators.sum())
    if n == 1:
        return Estimate(mean=mean, low=None, high=None, n=1)
    generator = np.random.default_rng(seed)
    block = max(1, RESAMPLED_AT_ONCE // n)
    means = []
    for start in range(0, resamples, block):
        drawn = generator.integers(0, n, size=(min(block, resamples - start), n))
        means.append(values[drawn].sum(axis=1) / denominators[drawn].sum(axis=1))
    tail = expanded_tail(n)
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Estimate(mean=mean, low=float(low), high=float(high), n=n)


def expanded_tail(n: int) -> float:
    """Share of resamples left out on each side: Φ(−t √(n / (n − 1))), t Student's, n − 1 degrees.

    Source: Hesterberg 2015, arXiv:1411.5279, section 5.3.
    """
    return NormalDist().cdf(-student(n - 1) * math.sqrt(n / (n - 1)))


def student(degrees: int) -> float:
    """Upper 2.5 % point of Student's t, to 0.2 % from three degrees of freedom on.

    Source: Fisher and Cornish 1960; Abramowitz and Stegun 1964, 26.7.5.
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    return (
        z
        + (z**3 + z) / 4 / degrees
        + (5 * z**5 + 16 * z**3 + 3 * z) / 96 / degrees**2
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384 / degrees**3
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160 / degrees**4
    )


def wilson(successes: float, n: float) -> Estimate:
    """Share of successes in n trials with Wilson's interval, which stays within [0, 1].

        (k + z²/2 ± z √(k (n − k) / n + z²/4)) / (n + z²)

    Args:
        successes: k, where half a success is a tie.
        n: trials; an effective number need not be whole.

    Source: Wilson 1927, JASA 22, 209–212.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"successes={successes} must lie between 0 and n={n}, n at least 1")
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    centre = successes + z * z / 2
    half = z * math.sqrt(successes * (n - successes) / n + z * z / 4)
    low, high = (centre - half) / (n + z * z), (centre + half) / (n + z * z)
    return Estimate(mean=successes / n, low=max(0.0, low), high=min(1.0, high), n=round(n))


def clustered_share(
    successes: Floats, trials: Floats, *, resamples: int, seed: int = 0
) -> Estimate:
    """Share Σ successes / Σ trials where the trials of one cluster are no independent witnesses.

    The interval reaches as far as the wider of two. The bootstrap over clusters is right whatever
    the clusters have in common, but too short near 0 and 1 and where one cluster holds most trials.
    Wilson's, for the effective number of clusters (Σ m)² / Σ m², supposes that a cluster's trials
    are all alike: the variance of the share is then p (1 − p) Σ m² / (Σ m)².

    Args:
        successes, trials: of each cluster, [clusters]; m = trials ≥ 1, not the same in each.

    Source: effective number: Kish 1965, "Survey sampling", section 8.2.
    Differs: the number of clusters itself would be Wilson's n only if all m were equal.
    """
    drawn = bootstrap(successes, trials, resamples=resamples, seed=seed)
    effective = float(trials.sum() ** 2 / np.square(trials).sum())
    bounded = wilson(drawn["mean"] * effective, effective)
    lows, highs = ([found[end] for found in (drawn, bounded)] for end in ("low", "high"))
    low = min(end for end in lows if end is not None)
    high = max(end for end in highs if end is not None)
    return Estimate(mean=drawn["mean"], low=low, high=high, n=drawn["n"])


def wins(values: Floats, reference: Floats) -> tuple[Floats, Floats]:
    """How often a policy's answer beats the reference's answer to the same prompt.

    Each of the s answers meets each of the reference's: s² games a prompt, all with one weight.

    Args:
        values, reference: [p, s] and [p, s′].

    Returns:
        points: wins + ½ ties, as a share of the games of each prompt, [p].
        ties: ties as a share of the games, [p].
    """
    mine, theirs = values[:, :, None], reference[:, None, :]
    ties = (mine == theirs).mean(axis=(1, 2))
    return (mine > theirs).mean(axis=(1, 2)) + ties / 2, ties


def distinct(responses: Sequence[Sequence[int]], *, n: int = 2) -> float:
    """Different n-grams as a share of all n-grams, over all responses together; 0 if there is none.

    It falls as the number of responses grows: compare it between equal numbers only.

    Source: Li et al. 2016, arXiv:1510.03055, section 5 (they divide by tokens, not by n-grams).
    """
    grams = [tuple(ids[i : i + n]) for ids in responses for i in range(len(ids) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0
