"""KL: direction by enumeration, the estimators' known moments, and which one may be a reward."""

from __future__ import annotations

import math

import pytest
import torch

from align.maths.kl import adaptive_kl_coef, full_kl, kl
from tests.oracles import maths as oracle

POLICY = torch.tensor([[[3.0, 0.0, 0.0]]])
REFERENCE = torch.tensor([[[0.0, 1.0, 1.0]]])


def enumerated(estimator: str) -> float:
    """The estimator's exact expectation over three tokens drawn from the policy."""
    logprobs, ref_logprobs = POLICY.log_softmax(-1)[0], REFERENCE.log_softmax(-1)[0]
    return (logprobs.exp() * kl(logprobs, ref_logprobs, estimator=estimator)).sum().item()


def test_direction_far_from_zero():
    """The two directions are 1.405 and 1.611 nats here: the wrong one would show."""
    forward = oracle.full_kl(POLICY.flatten().tolist(), REFERENCE.flatten().tolist())
    backward = oracle.full_kl(REFERENCE.flatten().tolist(), POLICY.flatten().tolist())
    assert abs(forward - backward) > 0.2
    assert full_kl(POLICY, REFERENCE).item() == pytest.approx(forward, rel=1e-5)
    assert enumerated("k1") == pytest.approx(forward, rel=1e-5)
    assert enumerated("k3") == pytest.approx(forward, rel=1e-5)


def test_literals_at_one_token():
    """log π − log π_ref = ln 2: k1 = .6931, k2 = .2402, k3 = ½ − 1 + ln 2 = .1931."""
    logprobs, ref_logprobs = torch.tensor([[math.log(0.5)]]), torch.tensor([[math.log(0.25)]])
    values = [kl(logprobs, ref_logprobs, estimator=k).item() for k in ("k1", "k2", "k3")]
    assert values == pytest.approx([0.693147, 0.240227, 0.193147], rel=1e-5)


@pytest.mark.parametrize(
    ("mean", "true", "biases", "spreads"),
    [(0.1, 0.005, (0, 0.002, 0), (20, 1.42, 1.42)), (1.0, 0.5, (0, 0.25, 0), (2, 1.73, 1.7))],
)
def test_moments_of_the_estimators_between_two_normals(mean, true, biases, spreads):
    """P14: KL(N(0,1) ‖ N(m,1)); relative bias and standard deviation of k1, k2, k3 (Schulman)."""
    x = torch.randn(1, 2_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logprobs, ref_logprobs = -x.square() / 2, -(x - mean).square() / 2
    for name, bias, std in zip(("k1", "k2", "k3"), biases, spreads, strict=True):
        samples = kl(logprobs, ref_logprobs, estimator=name)
        noise = 4 * std / math.sqrt(x.numel())
        assert samples.mean().item() / true - 1 == pytest.approx(bias, abs=noise + 0.001)
        assert samples.std().item() / true == pytest.approx(std, rel=0.02)


def test_adaptive_coefficient_literals():
    """P15: v = .15, n = 512, target 6 nats per sequence: 12 → .151536, 6 → .15, 3 → .148464."""
    moved = [
        adaptive_kl_coef(0.15, kl, target=6, horizon=10_000, episodes=512) for kl in (12, 6, 3)
    ]
    assert moved == pytest.approx([0.151536, 0.15, 0.148464], abs=1e-12)
    small = adaptive_kl_coef(1.0, 6.6, target=6, horizon=10_000, episodes=1000)
    assert small == pytest.approx(1.01, abs=1e-12)  # an error of 0.1 is below the clip


def ascend(scores, ref_logprobs, gradient, *, steps=600, rate=0.5):
    """Follow an exact policy gradient of a bandit from the reference; return the policy reached."""
    logits = ref_logprobs.clone()
    for _ in range(steps):
        logits = logits + rate * gradient(logits, scores, ref_logprobs)
    return logits.softmax(-1)


def reward_gradient(estimator):
    """Policy gradient with −β·estimator inside the (undifferentiated) reward."""

    def gradient(logits, scores, ref_logprobs, beta=0.5):
        logprobs = logits.log_softmax(-1)
        reward = scores - beta * kl(logprobs[None], ref_logprobs[None], estimator=estimator)[0]
        pi = logprobs.exp()
        return pi * (reward - (pi * reward).sum())

    return gradient


def loss_gradient(estimator):
    """Policy gradient of the score, and −β·estimator differentiated at sampled tokens as a loss."""

    def gradient(logits, scores, ref_logprobs, beta=0.5):
        logits = logits.clone().requires_grad_()
        logprobs = logits.log_softmax(-1)
        weights = logprobs.detach().exp()
        terms = kl(logprobs[None], ref_logprobs[None], estimator=estimator)[0]
        objective = (logprobs.exp() * scores).sum() - beta * (weights * terms).sum()
        return torch.autograd.grad(objective, logits)[0]

    return gradient


SCORES = torch.tensor([1.0, 0.5, 0.0, -0.5, 0.8, -1.0], dtype=torch.float64)
REFERENCE_ARMS = torch.tensor([0.05, 0.3, 0.25, 0.2, 0.1, 0.1], dtype=torch.float64)


def distance_from_optimum(gradient) -> float:
    """Total variation between the policy reached and π* ∝ π_ref · exp(score / β), β = .5."""
    optimum = (REFERENCE_ARMS.log() + SCORES / 0.5).softmax(-1)
    reached = ascend(SCORES, REFERENCE_ARMS.log(), gradient)
    return (reached - optimum).abs().sum().item() / 2


@pytest.mark.parametrize(
    ("gradient", "least", "most"),
    [
        (reward_gradient("k1"), 0, 0.0025),
        (loss_gradient("k2"), 0, 0.0025),
        (reward_gradient("k2"), 0.099, 1),
        (loss_gradient("k3"), 0.146, 1),
        (reward_gradient("k3"), 0.33, 1),
        (loss_gradient("k1"), 0.74, 1),
    ],
    ids=["reward-k1", "loss-k2", "reward-k2", "loss-k3", "reward-k3", "loss-k1"],
)
def test_only_k1_in_the_reward_or_k2_as_loss_reaches_the_optimum(gradient, least, most):
    """P13: π* ∝ π_ref · e^(score/β) has a closed form; total variation .0025 against .1 to .8."""
    assert least <= distance_from_optimum(gradient) <= most
