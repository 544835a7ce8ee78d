"""From one score per response to one advantage per token.

Shapes: b = batch (sequences), r = response tokens. Indices follow align/maths/timeline.py:
`values[:, j]` is V of the state before token j, `rewards[:, j]` is what token j earns.
"""

from __future__ import annotations

from typing import Literal, assert_never

import torch
from torch import Tensor

from align.maths.masks import EPSILON, check_shapes, last_index, masked_var


def missing_eos(
    scores: Tensor, finished: Tensor, *, rule: Literal["replace", "subtract"], penalty: float
) -> Tensor:
    """Punish responses that hit the length limit instead of stopping.

        replace:   score ← penalty             (−1 in Ziegler 2019 and Huang 2024)
        subtract:  score ← score − penalty

    Args:
        scores: [b].
        finished: bool [b], whether the sampler saw a stop token; never inferred from the width.
        penalty: in units of the score; with "subtract", 0 switches the rule off.

    Returns:
        [b]; finished responses keep their score.

    Source: Huang et al. 2024, arXiv:2403.17031, "EOS trick".
    """
    check_shapes(1, scores=scores, finished=finished)
    match rule:
        case "replace":
            return torch.where(finished, scores, torch.full_like(scores, penalty))
        case "subtract":
            return torch.where(finished, scores, scores - penalty)
        case _:
            assert_never(rule)


def kl_shaped_rewards(
    scores: Tensor, logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, *, kl_coef: float
) -> Tensor:
    """Reward of each token: the k1 price of leaving the reference; the score on the last token.

        r_t = −kl_coef · (log π(y_t) − log π_ref(y_t)) + [t is the last token] · score

    The last token of a finished response is its stop token: the score rewards the act of stopping
    there. It is not put on the padding after it, which would cost one more step of λ.

    Args:
        scores: [b].
        logprobs, ref_logprobs, mask: [b, r].

    Returns:
        [b, r], 0 outside the mask.

    Source: Ziegler et al. 2019, arXiv:1909.08593; Ouyang et al. 2022, arXiv:2203.02155, eq. 2.
    """
    check_shapes(2, logprobs=logprobs, ref_logprobs=ref_logprobs, mask=mask)
    check_shapes(1, scores=scores, mask_rows=mask[:, 0])
    log_ratio = torch.where(mask, logprobs - ref_logprobs, torch.zeros_like(logprobs))
    return (-kl_coef * log_ratio).scatter_add(1, last_index(mask)[:, None], scores[:, None])


@torch.no_grad()
def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation over responses of unequal length.

        δ_t = r_t + γ V_{t+1} − V_t,   A_t = δ_t + γλ A_{t+1},   R_t = A_t + V_t

    V and A after the last token of the mask are 0: a response cut at the length limit is treated
    as ended (its penalty is `missing_eos`), not bootstrapped.

    Args:
        rewards, values, mask: [b, r]; each row of mask is a run of True from column 0.

    Returns:
        advantages, returns: [b, r], 0 outside the mask, without gradient. Returns come from the
        advantages before any whitening.

    Source: Schulman et al. 2016, arXiv:1506.02438, eq. 16; as a recursion, Schulman et al. 2017,
        arXiv:1707.06347, eq. 11.
    """
    check_shapes(2, rewards=rewards, values=values, mask=mask)
    zero = torch.zeros_like(values)
    values = torch.where(mask, values, zero)
    advantages = torch.zeros_like(values)
    next_advantage = next_value = zero[:, 0]
    for t in reversed(range(mask.shape[1])):  # padding is behind: a row starts at its last token
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        next_advantage = torch.where(
            mask[:, t], delta + gamma * gae_lambda * next_advantage, zero[:, t]
        )
        next_value = values[:, t]
        advantages[:, t] = next_advantage
    return advantages, advantages + values


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """1 − Var(R − V) / Var(R) over the mask, []: 1 = perfect critic, 0 = as good as a constant."""
    check_shapes(2, values=values, returns=returns, mask=mask)
    return 1.0 - masked_var(returns - values, mask) / (masked_var(returns, mask) + EPSILON)
