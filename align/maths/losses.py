"""The five losses of the pipeline. Each is minimised and returns its loss with readings of it.

Who calls them: PPO trains with its policy's and its value loss (align/ppo/train.py). SFT, reward
model and DPO are trained by TRL, whose trainers compute the other three themselves, in batches of
their own make; tests/test_parity_trl.py holds theirs and these equal on the same batch.
`bradley_terry_loss` also measures the reward model on held-out pairs (stages/reward.py).

Shapes: b = batch (sequences), r = response tokens. Log-probabilities are in nats.

Token losses average over tokens, pair losses over pairs. `denominator` replaces the count of this
batch by that of a larger one, so that the losses, gradients and metrics of micro-batches *add up*
to those of the minibatch they were cut from. (A metric ending in `_max` combines by maximum.)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from align.maths.masks import check_shapes, masked_mean


class LossOutput(NamedTuple):
    """A loss, [] with gradient, and its metrics, each [] and detached."""

    loss: Tensor
    metrics: dict[str, Tensor]


def sft_loss(
    logprobs: Tensor, mask: Tensor, *, denominator: Tensor | float | None = None
) -> LossOutput:
    """Negative log-likelihood of the demonstrated response.

        L = −mean_t log π(y_t | x, y_<t)

    Args:
        logprobs, mask: [b, r]; the stop token counts.

    Returns:
        Token mean, nats.
    """
    check_shapes(2, logprobs=logprobs, mask=mask)
    loss = -masked_mean(logprobs, mask, denominator=denominator)
    return LossOutput(loss, {"nll": loss.detach()})


def bradley_terry_loss(
    chosen_scores: Tensor, rejected_scores: Tensor, *, margin: Tensor | None = None
) -> LossOutput:
    """Negative log-likelihood of the human choice when P(chosen ≻ rejected) = σ(difference).

        L = −mean log σ(s_chosen − s_rejected − m)

    Args:
        chosen_scores, rejected_scores: [b].
        margin: how much better the chosen one was judged, [b]; None = 0.

    Returns:
        Pair mean, nats; ln 2 at equal scores. A tie counts as half right in `accuracy`.

    Source: Ouyang et al. 2022, arXiv:2203.02155; margin: Touvron et al. 2023, arXiv:2307.09288.
    """
    check_shapes(1, chosen_scores=chosen_scores, rejected_scores=rejected_scores)
    difference = chosen_scores - rejected_scores
    loss = -logsigmoid(difference if margin is None else difference - margin).mean()
    accuracy = (difference.sign() + 1).mean() / 2
    metrics = {"accuracy": accuracy.detach(), "margin": difference.mean().detach()}
    return LossOutput(loss, metrics)


def dpo_loss(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, *, beta: float
) -> LossOutput:
    """Direct preference optimisation: the policy is its own reward model.

        r̂(x, y) = β (log π(y|x) − log π_ref(y|x)),   L = Bradley-Terry(r̂_chosen, r̂_rejected)

    Args:
        chosen, rejected, ref_chosen, ref_rejected: sequence log-probabilities, [b].
        beta: strength of the tie to the reference.

    Returns:
        Pair mean, nats; ln 2 while the policy still is the reference.

    Source: Rafailov et al. 2023, arXiv:2305.18290, eq. 7; implicit reward: eq. 5.
    """
    chosen_rewards = beta * (chosen - ref_chosen)
    rejected_rewards = beta * (rejected - ref_rejected)
    loss, metrics = bradley_terry_loss(chosen_rewards, rejected_rewards)
    rewards = {"chosen_reward": chosen_rewards, "rejected_reward": rejected_rewards}
    return LossOutput(loss, metrics | {k: v.mean().detach() for k, v in rewards.items()})


def ppo_policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_range: float,
    dual_clip: float | None = None,
    denominator: Tensor | float | None = None,
) -> LossOutput:
    """Clipped policy objective of PPO: no gain from moving a token's ratio past 1 ± ε.

        L = −mean_t min(ρ_t A_t, clip(ρ_t, 1 − ε, 1 + ε) A_t),   ρ_t = π(y_t) / π_old(y_t)

    Args:
        logprobs, old_logprobs, advantages, mask: [b, r]; only logprobs carries gradient.
        clip_range: ε.
        dual_clip: c > 1 bounds the loss of a token with A < 0 by −c A; None = unbounded.

    Returns:
        Token mean. Metrics: share of tokens whose gradient the clip removes, KL(old ‖ new) (k3),
        largest ratio, largest |ratio − 1|.

    Source: Schulman et al. 2017, arXiv:1707.06347, eq. 7; dual clip: Ye et al. 2020,
        arXiv:1912.09729, eq. 5.
    """
    check_shapes(2, logprobs=logprobs, old=old_logprobs, advantages=advantages, mask=mask)
    # Masked before exp: whatever stands on padding, an overflow there would be NaN in the gradient.
    log_ratio = torch.where(mask, logprobs - old_logprobs, torch.zeros_like(logprobs))
    ratio = log_ratio.exp()
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
    losses = torch.maximum(plain, clipped)
    if dual_clip is not None:
        losses = torch.where(advantages < 0, losses.clamp(max=-dual_clip * advantages), losses)
    with torch.no_grad():
        metrics = {
            "clip_fraction": masked_mean((losses != plain).float(), mask, denominator=denominator),
            "kl_old_new": masked_mean(ratio - 1 - log_ratio, mask, denominator=denominator),
            "ratio_max": torch.where(mask, ratio, torch.zeros_like(ratio)).max(),
            "ratio_gap_max": (ratio - 1).abs().max(),
        }
    return LossOutput(masked_mean(losses, mask, denominator=denominator), metrics)


def ppo_value_loss(
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    mask: Tensor,
    *,
    value_clip_range: float | None = None,
    denominator: Tensor | float | None = None,
) -> LossOutput:
    """Squared error of the critic, never rewarding a step of more than c from its old value.

        L = mean_t ½ max((V_t − R_t)², (clip(V_t, V_old − c, V_old + c) − R_t)²)

    Args:
        values, old_values, returns, mask: [b, r]; only values carries gradient.
        value_clip_range: c, absolute, in units of the return: give a share of the returns'
            standard deviation, or the clip depends on the reward's scale. None = squared error.

    Returns:
        Token mean, squared units of the return. Metric: share of tokens the clip binds.

    Source: Engstrom et al. 2020, arXiv:2005.12729, "value function clipping".
    """
    check_shapes(2, values=values, old_values=old_values, returns=returns, mask=mask)
    errors = plain = (values - returns).square() / 2
    if value_clip_range is not None:
        near = old_values + (values - old_values).clamp(-value_clip_range, value_clip_range)
        errors = torch.maximum(plain, (near - returns).square() / 2)
    bound = (errors != plain).float()
    metrics = {"clip_fraction": masked_mean(bound, mask, denominator=denominator).detach()}
    return LossOutput(masked_mean(errors, mask, denominator=denominator), metrics)
