"""KL(policy ‖ reference): three estimators, the exact sum, and the adaptive coefficient.

Shapes: b = batch (sequences), r = response tokens, v = vocabulary. All divergences are in nats.

In the reward belongs k1 and only k1: a reward is not differentiated, and the score-function
gradient of E[log π − log π_ref] is that of the KL. k2 or k3 put there optimise something else;
k2 and k3 serve as low-variance readings.
"""

from __future__ import annotations

from typing import Literal, assert_never

from torch import Tensor

from align.maths.masks import check_shapes

Estimator = Literal["k1", "k2", "k3"]
LARGEST_ERROR = 0.2


def kl(logprobs: Tensor, ref_logprobs: Tensor, *, estimator: Estimator = "k1") -> Tensor:
    """Estimate KL(policy ‖ reference) at tokens sampled from the policy.

        k1 = log π − log π_ref          unbiased, of either sign
        k2 = (log π − log π_ref)² / 2   biased, never negative
        k3 = ρ − 1 − log ρ,  ρ = π_ref / π   unbiased and never negative

    Args:
        logprobs, ref_logprobs: [b, r], of the same tokens.

    Returns:
        Nats per token, [b, r].

    Source: Schulman 2020, "Approximating KL divergence", joschu.net/blog/kl-approx.html.
    """
    check_shapes(2, logprobs=logprobs, ref_logprobs=ref_logprobs)
    log_ratio = logprobs - ref_logprobs
    match estimator:
        case "k1":
            return log_ratio
        case "k2":
            return log_ratio.square() / 2
        case "k3":
            return (-log_ratio).expm1() + log_ratio
        case _:
            assert_never(estimator)


def full_kl(logits: Tensor, ref_logits: Tensor) -> Tensor:
    """Exact KL(policy ‖ reference) of each next-token distribution, Σ_v π (log π − log π_ref).

    Args:
        logits, ref_logits: [b, r, v], already divided by the temperature.

    Returns:
        Nats per position, [b, r].
    """
    check_shapes(3, logits=logits, ref_logits=ref_logits)
    logprobs = logits.float().log_softmax(dim=-1)
    ref_logprobs = ref_logits.float().log_softmax(dim=-1)
    return (logprobs.exp() * (logprobs - ref_logprobs)).sum(dim=-1)


def adaptive_kl_coef(
    kl_coef: float, kl: float, *, target: float, horizon: float, episodes: int
) -> float:
    """Move the KL coefficient towards the value that holds the divergence at `target`.

        e = clip(kl / target − 1, −0.2, 0.2),   kl_coef ← kl_coef · (1 + e · episodes / horizon)

    Args:
        kl, target: nats per *sequence*, not per token.
        horizon: episodes.
        episodes: responses since the last call.

    Source: Ziegler et al. 2019, arXiv:1909.08593, section 2.2; horizon as in the released code.
    """
    error = min(max(kl / target - 1.0, -LARGEST_ERROR), LARGEST_ERROR)
    return kl_coef * (1.0 + error * episodes / horizon)
