"""PPO against what can be enumerated: exact gradients, a known optimum, plain cases end to end."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity

from align.data import EncodedPrompt
from align.maths.advantages import gae, kl_shaped_rewards
from align.maths.losses import ppo_policy_loss
from align.ppo import train as ppo
from align.ppo.train import update
from tests import tiny_roles
from tests.tabular import TabularRoles
from tests.tiny_ppo import collect, generator, with_sgd
from tests.tiny_roles import Log

ENDLESS = {"missing_eos": "subtract", "missing_eos_penalty": 0.0}
"""For responses that all have the same length: reaching it is no fault."""

ARMS = torch.tensor([1.0, 0.5, 0.0, -0.5, 0.8, -1.0])
PRIOR = torch.tensor([0.05, 0.3, 0.25, 0.2, 0.1, 0.1])
BETA = 0.5
OPTIMUM = (PRIOR.log() + ARMS / BETA).softmax(-1)


def total_variation(p: torch.Tensor, q: torch.Tensor) -> float:
    return (p - q).abs().sum().item() / 2


def test_the_exact_gradient_of_our_formulas_leads_to_the_bandits_optimum():
    """P13: every arm once, its advantage weighted by its probability: TV to π* ≤ .0025."""
    logits, mask = PRIOR.log().requires_grad_(), torch.ones(6, 1, dtype=torch.bool)
    reference = PRIOR.log()[:, None]
    for _ in range(600):
        logprobs = logits.log_softmax(-1)[:, None]
        pi, now = logprobs.detach().exp(), logprobs.detach()
        rewards = kl_shaped_rewards(ARMS, now, reference, mask, kl_coef=BETA)
        values = (pi * rewards).sum().expand(6, 1)
        advantages, _ = gae(rewards, values, mask, gamma=1.0, gae_lambda=0.95)
        weighted = 6 * pi * advantages  # the loss divides by six tokens
        loss = ppo_policy_loss(logprobs, now, weighted, mask, clip_range=0.2).loss
        (gradient,) = torch.autograd.grad(loss, logits)
        with torch.no_grad():
            logits -= 0.5 * gradient
    assert total_variation(PRIOR, OPTIMUM) > 0.3
    assert total_variation(logits.detach().softmax(-1), OPTIMUM) <= 0.0025


def test_sampled_ppo_reaches_the_closed_form_optimum_of_the_bandit():
    """P13: π* ∝ π_ref · e^(score/β), β = .5; total variation below .03 from samples alone."""
    start = PRIOR.log().expand(7, 6)
    roles = TabularRoles(
        start, start, lambda batch: ARMS[batch.response_ids[:, 0]], stop_ids=range(6)
    )
    config = tiny_roles.config(
        iterations=120,
        rollout_batch_size=256,
        micro_batch_size=256,
        minibatches=1,
        epochs=2,
        max_new_tokens=1,
        learning_rate=0.05,
        value_learning_rate=0.05,
        kl_coef=BETA,
        whiten_advantages=False,
    )
    log = Log()
    ppo.train(roles, [EncodedPrompt([6])], config, tracker=log, seed=0)
    reached = roles.policy.logits[6].detach().softmax(-1)
    distance = total_variation(reached, OPTIMUM)
    print(f"bandit: total variation {distance:.4f} after {total_variation(PRIOR, OPTIMUM):.4f}")
    assert distance < 0.03
    exact_kl = (reached * (reached / PRIOR).log()).sum().item()
    sampled_kl = [row["ppo/kl/sequence"] for row in log.rows[-20:]]
    assert sum(sampled_kl) / 20 == pytest.approx(exact_kl, abs=0.05)


# A world of two steps: from the prompt, token 3, to one of three tokens, and from there to another.

SCORES = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0], [2.0, 0.3, -0.7]])
PRICE = 0.4


def two_steps() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of policy and reference, [4 states, 3 tokens]."""
    drawn = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))
    return drawn[0], drawn[1]


def exact(policy: torch.Tensor, reference: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """∇ of E[score − β KL] by enumeration, and V of each state: after 0, 1, 2, and the prompt."""
    policy = policy.clone().requires_grad_()
    pi, prices = policy.softmax(-1), PRICE * (policy.log_softmax(-1) - reference.log_softmax(-1))
    after = (pi[:3] * (SCORES - prices[:3])).sum(-1)
    value = (pi[3] * (after - prices[3])).sum()
    (gradient,) = torch.autograd.grad(value, policy)
    return gradient, torch.cat([after, value[None]]).detach()


@pytest.mark.parametrize(("gae_lambda", "critic"), [(1.0, "wrong"), (0.5, "exact"), (0.0, "exact")])
def test_the_mean_gradient_of_sampled_ppo_is_the_exact_one(gae_lambda, critic):
    """P33e: cosine > .999 and the same length; by any critic at λ = 1, by the true one at any λ."""
    policy, reference = two_steps()
    gradient, values = exact(policy, reference)
    roles = TabularRoles(
        policy,
        reference,
        lambda batch: SCORES[tuple(batch.response_ids.T)],
        values=values if critic == "exact" else torch.tensor([1.0, -1.0, 2.0, 0.5]),
    )
    config = tiny_roles.config(
        rollout_batch_size=40_000,
        micro_batch_size=40_000,
        minibatches=1,
        epochs=1,
        max_new_tokens=2,
        gae_lambda=gae_lambda,
        whiten_advantages=False,
        max_grad_norm=1e9,
        **ENDLESS,
    )
    rollout = collect(roles, config, kl_coef=PRICE, prompts=[EncodedPrompt([3])] * 40_000).rollout
    update(roles, rollout, with_sgd(roles, config, lr=0.0), config, generator=generator())
    sampled = -2 * roles.policy.logits.grad  # the loss is a mean over two tokens an episode
    assert cosine_similarity(sampled.flatten(), gradient.flatten(), dim=0) > 0.999
    assert sampled.norm().item() == pytest.approx(gradient.norm().item(), rel=0.02)


# Twelve steps over eight tokens; the upper half of the ids is what a score asks for.


def upper_half(batch) -> torch.Tensor:
    """Share of ids above 3, [b]."""
    return (batch.response_ids > 3).float().mean(-1)


def table(seed: int) -> torch.Tensor:
    return torch.randn(8, 8, generator=torch.Generator().manual_seed(seed))


def trained(scores, reference, *, away: float = 0.0, **settings) -> list[dict[str, float]]:
    """The curve of a PPO that starts `away` from its reference."""
    roles = TabularRoles(reference + away * table(5), reference, scores)
    defaults = {"rollout_batch_size": 128, "micro_batch_size": 128, "learning_rate": 0.05}
    config = tiny_roles.config(
        iterations=60,
        minibatches=1,
        max_new_tokens=12,
        value_learning_rate=0.05,
        **(ENDLESS | defaults | settings),
    )
    log = Log()
    ppo.train(roles, [EncodedPrompt([n]) for n in range(8)], config, tracker=log, seed=0)
    return log.rows


def test_without_a_price_the_reward_saturates():
    """P33c: β = 0; from .5 to .98 and more of what the score asks for."""
    curve = trained(upper_half, table(2), kl_coef=0.0)
    assert 0.3 < curve[0]["ppo/reward/score"] < 0.7
    assert curve[-1]["ppo/reward/score"] > 0.98


def test_at_a_high_price_the_policy_returns_to_its_reference():
    """P33b: β = 100, from several nats per episode to less than .02."""
    curve = trained(upper_half, table(2), away=0.5, kl_coef=100.0)
    assert curve[0]["ppo/kl/sequence"] > 1
    assert abs(curve[-1]["ppo/kl/sequence"]) < 0.02


@pytest.mark.parametrize(("kl_coef", "learning_rate"), [(0.03, 0.05), (0.1, 0.02)])
def test_reward_and_kl_are_those_of_the_optimum_at_their_price(kl_coef, learning_rate):
    """P33a: where no token bears on the next, π* tilts each by e^(1/12β) if it is asked for.

    Adam's steps around an optimum are as long as its rate: the nearer one wants the smaller rate.
    """
    reference = torch.randn(8, generator=torch.Generator().manual_seed(2))
    tilt = (torch.arange(8) > 3) / (12 * kl_coef)
    optimum = (reference + tilt).softmax(-1)
    kl = 12 * (optimum * (optimum.log() - reference.log_softmax(-1))).sum().item()
    prior = reference.expand(8, 8)
    settings = {"rollout_batch_size": 256, "micro_batch_size": 256, "learning_rate": learning_rate}
    curve = trained(upper_half, prior, kl_coef=kl_coef, gae_lambda=1.0, epochs=4, **settings)
    score, sequence_kl, token_kl = (
        sum(row[name] for row in curve[-20:]) / 20
        for name in ("ppo/reward/score", "ppo/kl/sequence", "ppo/kl/token_k3")
    )
    assert score == pytest.approx(optimum[4:].sum().item(), abs=0.01)
    assert sequence_kl == pytest.approx(kl, rel=0.1)
    assert 12 * token_kl == pytest.approx(kl, rel=0.05)


def test_a_random_reward_teaches_nothing():
    """P33d: β = 0 and scores without regard to the response: entropy and mean reward stay."""
    noise = torch.Generator().manual_seed(3)

    def scores(batch):
        return torch.randn(len(batch), generator=noise)

    # Adam makes a walk of noise, too, whose steps are as long as its rate.
    curve = trained(scores, table(2), kl_coef=0.0, learning_rate=0.01)
    entropies = [row["ppo/policy/entropy"] for row in curve]
    scores = [row["ppo/reward/score"] for row in curve]
    assert entropies[-1] == pytest.approx(entropies[0], rel=0.05)
    assert sum(scores) / len(scores) == pytest.approx(0, abs=0.05)
