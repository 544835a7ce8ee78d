"""Losses on preferences in float64, written from the papers: one answer at a time, nothing batched.

Nothing here imports the library or TRL. What TRL says of a batch is held against it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.oracles.models64 import LanguageModel


@dataclass
class Answer:
    """Log-probabilities of the tokens of an answer, by policy and reference, [tokens] each."""

    policy: Tensor
    reference: Tensor

    @property
    def log_ratio(self) -> Tensor:
        return self.policy.sum() - self.reference.sum()

    @property
    def mean_log_ratio(self) -> Tensor:
        return self.log_ratio / len(self.policy)


def answer(
    policy: LanguageModel, reference: LanguageModel, prompt: list[int], response: list[int]
) -> Answer:
    return Answer(*(_logprobs(model, prompt, response) for model in (policy, reference)))


def _logprobs(model: LanguageModel, prompt: list[int], response: list[int]) -> Tensor:
    logits, _ = model.logits_and_states([*prompt, *response])
    before = range(len(prompt) - 1, len(prompt) + len(response) - 1)
    normal = [logits[t] - torch.logsumexp(logits[t], dim=0) for t in before]
    return torch.stack([row[token] for row, token in zip(normal, response, strict=True)])


def log_sigmoid(x: Tensor) -> Tensor:
    return -torch.log1p(torch.exp(-x))


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def dpo(
    kind: str,
    chosen: list[Answer],
    rejected: list[Answer],
    *,
    beta: float,
    smoothing: float,
    temperature: float,
) -> Tensor:
    """Mean over the pairs of a batch of one of the losses that TRL's `loss_type` names."""
    if kind == "sft":  # the mean token of all chosen answers
        return -torch.cat([each.policy for each in chosen]).mean()
    good, bad = ([each.log_ratio for each in side] for side in (chosen, rejected))
    if kind == "aot":  # Melnyk 2024, arXiv:2406.05882, paired: quantiles of what each prefers
        mine = [c.policy.sum() - r.policy.sum() for c, r in zip(chosen, rejected, strict=True)]
        its = [c.reference.sum() - r.reference.sum() for c, r in zip(chosen, rejected, strict=True)]
        return _mean(
            _smoothed(beta * (a - b), smoothing)
            for a, b in zip(sorted(mine), sorted(its), strict=True)
        )
    if kind == "aot_unpaired":
        return _mean(
            _smoothed(beta * (a - b), smoothing)
            for a, b in zip(sorted(good), sorted(bad), strict=True)
        )
    if kind in ("ipo", "sigmoid_norm"):  # both of the mean token
        good, bad = ([each.mean_log_ratio for each in side] for side in (chosen, rejected))
    pairs = zip(good, bad, strict=True)
    return _mean(_pair(kind, *pair, beta, smoothing, temperature) for pair in pairs)


def _pair(
    kind: str,
    good: Tensor,
    bad: Tensor,
    beta: float,
    smoothing: float,
    tau: float,
) -> Tensor:
    h = beta * (good - bad)
    match kind:
        case "sigmoid" | "sigmoid_norm":  # Rafailov 2023, arXiv:2305.18290, eq. 7
            return -log_sigmoid(h)
        case "hinge":  # Liu 2023, arXiv:2309.06657, eq. 10
            return torch.clamp(1 - h, min=0)
        case "ipo":  # Azar 2023, arXiv:2310.12036, eq. 17
            return (good - bad - 1 / (2 * beta)) ** 2
        case "exo_pair":  # Ji 2024, arXiv:2402.00856, eq. 16: reverse KL of two pairs of shares
            shares, wanted = (sigmoid(h), sigmoid(-h)), (1 - smoothing, smoothing)
            return sum(s * torch.log(s / p) for s, p in zip(shares, wanted, strict=True))  # type: ignore[return-value]
        case "nca_pair":  # Chen 2024, arXiv:2402.05369, two answers
            return (
                -log_sigmoid(beta * good)
                - (log_sigmoid(-beta * good) + log_sigmoid(-beta * bad)) / 2
            )
        case "robust":  # Chowdhury 2024, arXiv:2403.00409, eq. 12
            clean, flipped = -log_sigmoid(h), -log_sigmoid(-h)
            return ((1 - smoothing) * clean - smoothing * flipped) / (1 - 2 * smoothing)
        case "bco_pair":  # Jung 2024, arXiv:2404.04656, without the shift of its eq. 8
            return -log_sigmoid(beta * good) - log_sigmoid(-beta * bad)
        case "sppo_hard":  # Wu 2024, arXiv:2405.00675, eq. 4.7 with probabilities 1 and 0
            return (good - 1 / (2 * beta)) ** 2 + (bad + 1 / (2 * beta)) ** 2
        case "apo_zero":  # D'Oosterlinck 2024, arXiv:2408.06266, eq. 7
            return 1 - sigmoid(beta * good) + sigmoid(beta * bad)
        case "apo_down":  # the same, eq. 8
            return sigmoid(beta * good) + 1 - sigmoid(h)
        case "discopop":  # Lu 2024, arXiv:2406.08414, eq. 5
            share = sigmoid(h / tau)
            return -log_sigmoid(h) * (1 - share) + torch.exp(-h) * share
    raise KeyError(kind)


def kto(
    kind: str,
    answers: list[Answer],
    others: list[Answer],
    labels: list[bool],
    *,
    beta: float,
    desirable: float,
    undesirable: float,
) -> Tensor:
    """Ethayarajh 2024, arXiv:2402.01306, eq. 7; `others` are answers given to another prompt.

    `apo_zero_unpaired` (arXiv:2408.06266, eq. 7) is the same against 0 for the KL.
    """
    zero = divergence(others) if kind == "kto" else 0.0
    losses = []
    for each, good in zip(answers, labels, strict=True):
        gain = beta * (each.log_ratio - zero)
        losses.append(
            desirable * (1 - sigmoid(gain)) if good else undesirable * (1 - sigmoid(-gain))
        )
    return _mean(losses)


def divergence(others: list[Answer]) -> float:
    """The reference point of KTO: an estimate of KL(policy ‖ reference), at least 0."""
    return max(0.0, math.fsum(each.log_ratio.item() for each in others) / len(others))


def _smoothed(h: Tensor, smoothing: float) -> Tensor:
    return -(1 - smoothing) * log_sigmoid(h) - smoothing * log_sigmoid(-h)


def _mean(losses: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(losses)).mean()
