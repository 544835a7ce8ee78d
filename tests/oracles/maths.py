"""The formulas of L0 once more, as plain loops over Python floats (64 bit): slow and plain to see.

Written from the papers, not from the library: nothing here imports it, or torch. Matrices are lists
of rows; `lengths` says how many leading entries of each row count.
"""

from __future__ import annotations

import math

Matrix = list[list[float]]


def mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


def variance(numbers: list[float]) -> float:
    centre = mean(numbers)
    return mean([(x - centre) ** 2 for x in numbers])


def valid(rows: Matrix, lengths: list[int]) -> list[float]:
    return [x for row, length in zip(rows, lengths, strict=True) for x in row[:length]]


def log_softmax(logits: list[float]) -> list[float]:
    top = max(logits)
    log_sum = top + math.log(sum(math.exp(z - top) for z in logits))
    return [z - log_sum for z in logits]


def entropy(logits: list[float]) -> float:
    return -sum(math.exp(logprob) * logprob for logprob in log_softmax(logits))


def full_kl(logits: list[float], ref_logits: list[float]) -> float:
    policy, reference = log_softmax(logits), log_softmax(ref_logits)
    return sum(math.exp(p) * (p - q) for p, q in zip(policy, reference, strict=True))


def kl_shaped_rewards(
    scores: list[float], logprobs: Matrix, ref: Matrix, lengths: list[int], kl_coef: float
) -> Matrix:
    rewards = []
    for i, length in enumerate(lengths):
        row = [-kl_coef * (logprobs[i][j] - ref[i][j]) for j in range(length)]
        row[length - 1] += scores[i]
        rewards.append(row + [0.0] * (len(logprobs[i]) - length))
    return rewards


def gae(
    rewards: Matrix, values: Matrix, lengths: list[int], gamma: float, lam: float
) -> tuple[Matrix, Matrix]:
    """The sum of the definition, Σ_l (γλ)^l δ_{t+l}, rather than the recursion."""
    advantages, returns = [], []
    for i, length in enumerate(lengths):
        v = [*values[i][:length], 0.0]
        delta = [rewards[i][t] + gamma * v[t + 1] - v[t] for t in range(length)]
        row = [
            sum((gamma * lam) ** (k - t) * delta[k] for k in range(t, length))
            for t in range(length)
        ]
        padding = [0.0] * (len(values[i]) - length)
        advantages.append(row + padding)
        returns.append([a + b for a, b in zip(row, v, strict=False)] + padding)
    return advantages, returns


def ppo_policy_loss(
    logprobs: Matrix,
    old: Matrix,
    advantages: Matrix,
    lengths: list[int],
    clip_range: float,
    dual_clip: float | None,
) -> float:
    losses = []
    for i, length in enumerate(lengths):
        for j in range(length):
            ratio, a = math.exp(logprobs[i][j] - old[i][j]), advantages[i][j]
            gain = min(ratio * a, min(max(ratio, 1 - clip_range), 1 + clip_range) * a)
            if dual_clip is not None and a < 0:
                gain = max(gain, dual_clip * a)
            losses.append(-gain)
    return mean(losses)


def ppo_value_loss(
    values: Matrix, old: Matrix, returns: Matrix, lengths: list[int], clip: float | None
) -> float:
    losses = []
    for i, length in enumerate(lengths):
        for j in range(length):
            v, r = values[i][j], returns[i][j]
            worst = (v - r) ** 2
            if clip is not None:
                near = min(max(v, old[i][j] - clip), old[i][j] + clip)
                worst = max(worst, (near - r) ** 2)
            losses.append(0.5 * worst)
    return mean(losses)


def bradley_terry_loss(chosen: list[float], rejected: list[float], margin: list[float]) -> float:
    return mean(
        [
            math.log(1.0 + math.exp(-(c - r - m)))
            for c, r, m in zip(chosen, rejected, margin, strict=True)
        ]
    )


def dpo_loss(
    chosen: list[float],
    rejected: list[float],
    ref_chosen: list[float],
    ref_rejected: list[float],
    beta: float,
) -> float:
    losses = []
    for c, r, ref_c, ref_r in zip(chosen, rejected, ref_chosen, ref_rejected, strict=True):
        probability = 1.0 / (1.0 + math.exp(-beta * ((c - ref_c) - (r - ref_r))))
        losses.append(-math.log(probability))
    return mean(losses)
