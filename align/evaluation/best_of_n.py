"""Best-of-n: of n answers the reward model picks one. It trains nothing, and its KL is bounded.

    KL(best-of-n ‖ SFT) ≤ log n − (n − 1) / n    nats per answer

with equality where no two answers score alike. So n = 1, 2, 3, … draws a curve of what a reward
model can give at each KL, and a policy trained on that reward may be held against it. Where answers
repeat, best-of-n is nearer to SFT than drawn: as long as the curve rises, a policy below it is
below it all the more, and one above it may owe some of that to the bound.

numpy only, no model. Shapes: p = prompts, m = answers drawn for each.

Source: Beirami 2024, arXiv:2401.01879, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from align.evaluation.statistics import Estimate, Floats

Estimator = Callable[[Floats], Estimate]
"""One number per prompt [p] → their mean with its interval; prompts with NaN do not count."""


def kl_bound(n: int) -> float:
    """The largest KL(best-of-n ‖ SFT) in nats per answer: log n − (n − 1) / n."""
    return math.log(n) - (n - 1) / n


def picks(rewards: Sequence[Sequence[float]], n: int) -> list[list[int]]:
    """Which answers are picked: of each n in a row the one with the highest reward.

    Of equals it is the first. [p][m] → [p][m / n], as indices into the m answers.
    """
    return [
        [max(range(start, start + n), key=its.__getitem__) for start in range(0, len(its), n)]
        for its in rewards
    ]


def expected(values: Floats, rewards: Floats) -> Floats:
    """Mean of `values` [p, m] over the picks of best-of-k, for k = 1 … m: [m, p].

        Eₖ = Σᵢ C(i − 1, k − 1) / C(m, k) · vᵢ     i: rank by reward from below, 1 … m

    Every choice of k among the m answers counts alike, so that all of them are used for each k.

    Source: Hilton and Gao 2022, "Measuring Goodhart's law", openai.com.
    """
    m = rewards.shape[1]
    order = np.argsort(rewards, axis=1, kind="stable")
    ranked = np.take_along_axis(values, order, axis=1)
    shares = [[math.comb(i, k - 1) / math.comb(m, k) for i in range(m)] for k in range(1, m + 1)]
    means: Floats = np.array(shares) @ ranked.T
    return means


def at_kl(curve: Floats, kl: float) -> Floats | None:
    """Read a curve [m, p] at a KL in nats, straight between whole k; None beyond k = m."""
    bounds = [kl_bound(k) for k in range(1, len(curve) + 1)]
    if kl > bounds[-1]:
        return None
    above = next(k for k, bound in enumerate(bounds) if bound >= kl)
    if above == 0:
        return curve[0]
    share = (kl - bounds[above - 1]) / (bounds[above] - bounds[above - 1])
    between: Floats = (1 - share) * curve[above - 1] + share * curve[above]
    return between


def compare(
    pool: Mapping[str, Floats],
    policies: Mapping[str, tuple[float, Mapping[str, Floats]]],
    estimate: Estimator,
) -> dict[str, Any]:
    """The entry `best_of_n` of the summary.

    Args:
        pool: `reward`, and `gold` where there is any, of all answers drawn, [p, m].
        policies: the KL of each policy in nats per answer, and its means by prompt [p].

    Returns:
        curve: for n = 1, 2, 4, … m the KL bound and the mean of each quantity.
        against: how much more each policy has than best-of-n at the policy's own KL; None for
            one beyond the end of the curve.
    """
    curves = {key: expected(values, pool["reward"]) for key, values in pool.items()}
    m = pool["reward"].shape[1]
    drawn = sorted({2**power for power in range(m.bit_length())} | {m})
    against: dict[str, Any] = {}
    for name, (kl, means) in policies.items():
        reached = {key: at_kl(curve, kl) for key, curve in curves.items()}
        against[name] = {
            key: estimate(means[key] - there) for key, there in reached.items() if there is not None
        } or None
    return {
        "drawn": m,
        "curve": [
            {"n": n, "kl_bound": kl_bound(n)}
            | {key: estimate(curve[n - 1]) for key, curve in curves.items()}
            for n in drawn
        ],
        "against": against,
    }
