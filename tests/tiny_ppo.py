"""Steps of a tiny PPO, for the tests that look at one of them."""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch

from align.ppo.optimiser import Optimisers
from align.ppo.train import estimate_advantages, measure, sample, score, shape_rewards
from tests.tiny_roles import PROMPTS


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def collect(roles, config, *, kl_coef=0.1, prompts=PROMPTS * 2):
    """Steps 1 to 5."""
    samples, sequences = sample(roles, prompts, config, generator=generator())
    scores, raw_scores = score(roles, samples, sequences, config)
    measured = measure(roles, samples, sequences, config)
    rewards = shape_rewards(scores, measured, sequences.response_mask, config, kl_coef=kl_coef)
    rollout = estimate_advantages(rewards, measured, sequences, config)
    return SimpleNamespace(
        samples=samples,
        sequences=sequences,
        scores=scores,
        raw_scores=raw_scores,
        measured=measured,
        rollout=rollout,
    )


def weights(parameters) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


def with_sgd(roles, config, *, lr: float) -> Optimisers:
    """Optimisers whose steps can be read: plain gradient descent instead of Adam."""
    optimisers = Optimisers.of(roles, config)
    for optimiser in optimisers:
        optimiser.adam = torch.optim.SGD(optimiser.parameters, lr=lr)
    return optimisers


def moved(roles_parameters, before) -> float:
    """Length of the way the parameters went."""
    pairs = zip(roles_parameters, before, strict=True)
    return math.sqrt(sum((p.detach() - b).square().sum().item() for p, b in pairs))
