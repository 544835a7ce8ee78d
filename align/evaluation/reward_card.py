"""How good the reward model is, from its scores of held-out pairs. No model, no I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from align.evaluation.statistics import Estimate, clustered_share


@dataclass(frozen=True)
class ScoredPair:
    """One held-out pair: what the reward model gave, and what is known of the pair."""

    prompt: str
    """Key of the prompt: pairs of one prompt are no independent witnesses."""
    chosen: float
    rejected: float
    chosen_length: int
    rejected_length: int
    """Tokens."""
    family: str | None = None
    bayes: float | None = None
    """Probability that the label names the better answer, as its simulated annotator labels."""


Points = Callable[[ScoredPair], float]
"""1 where a judge prefers the chosen answer of a pair, ½ where it cannot tell, else 0."""


def reward_card(pairs: Sequence[ScoredPair], *, resamples: int, seed: int = 0) -> dict[str, Any]:
    """The entry `reward_model` of the summary.

    Args:
        resamples, seed: of the bootstrap.

    Returns:
        accuracy: share of pairs with the chosen answer scored higher, a tie counts ½.
        family: the same by family.
        chosen_longer, chosen_shorter: the same where the chosen answer is the longer, the shorter.
        longer_wins: accuracy of a judge that prefers the longer answer, which learns nothing.
        ceiling: mean of max(p, 1 − p) over the pairs' label probabilities: no model can be expected
            to agree with these noisy labels more often. None unless every pair carries it.
        ratio: accuracy / ceiling, an Estimate.
        margin: mean score difference, chosen − rejected.
        pairs: how many; the n of an interval counts prompts.
    """
    families: dict[str, list[ScoredPair]] = defaultdict(list)
    for pair in pairs:
        if pair.family is not None:
            families[pair.family].append(pair)
    longer = [pair for pair in pairs if pair.chosen_length > pair.rejected_length]
    shorter = [pair for pair in pairs if pair.chosen_length < pair.rejected_length]

    def share(of: Sequence[ScoredPair], points: Points) -> Estimate:
        return _share(of, points, resamples=resamples, seed=seed)

    accuracy = share(pairs, _by_score)
    ceiling = _ceiling(pairs)
    return {
        "pairs": len(pairs),
        "accuracy": accuracy,
        "family": {name: share(families[name], _by_score) for name in sorted(families)},
        "chosen_longer": share(longer, _by_score) if longer else None,
        "chosen_shorter": share(shorter, _by_score) if shorter else None,
        "longer_wins": share(pairs, _by_length),
        "ceiling": ceiling,
        "ratio": None if ceiling is None else _scaled(accuracy, 1 / ceiling),
        "margin": float(np.mean([pair.chosen - pair.rejected for pair in pairs])),
    }


def _preference(chosen: float, rejected: float) -> float:
    return 0.5 if chosen == rejected else float(chosen > rejected)


def _by_score(pair: ScoredPair) -> float:
    return _preference(pair.chosen, pair.rejected)


def _by_length(pair: ScoredPair) -> float:
    return _preference(pair.chosen_length, pair.rejected_length)


def _share(pairs: Sequence[ScoredPair], points: Points, *, resamples: int, seed: int) -> Estimate:
    """Share of points, with the interval over prompts: pairs of one prompt are one cluster."""
    found: dict[str, list[float]] = defaultdict(list)
    for pair in pairs:
        found[pair.prompt].append(points(pair))
    successes = np.array([sum(its) for its in found.values()])
    trials = np.array([float(len(its)) for its in found.values()])
    return clustered_share(successes, trials, resamples=resamples, seed=seed)


def _ceiling(pairs: Sequence[ScoredPair]) -> float | None:
    known = [max(p.bayes, 1 - p.bayes) for p in pairs if p.bayes is not None]
    return float(np.mean(known)) if len(known) == len(pairs) else None


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    low, high = estimate["low"], estimate["high"]
    assert low is not None and high is not None  # a share has an interval from one prompt on
    return Estimate(
        mean=estimate["mean"] * factor, low=low * factor, high=high * factor, n=estimate["n"]
    )
