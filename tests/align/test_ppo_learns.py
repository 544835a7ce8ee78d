"""What PPO is for: it reaches a known optimum, raises a reward, and pays for KL."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from align import ppo
from tests import tiny_roles
from tests.tiny_roles import PROMPTS, Log


class Bandit(nn.Module):
    """A language model of one step: logits of six arms, whatever the prompt."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.clone())
        self.config = SimpleNamespace(num_hidden_layers=0)
        self.device = torch.device("cpu")

    def forward(self, input_ids, **_):
        return SimpleNamespace(logits=self.logits.expand(len(input_ids), 1, -1))


class BanditRoles:
    """Six arms with known scores; every arm ends the episode."""

    pad_id, stop_ids, device = 0, list(range(6)), torch.device("cpu")
    reward_mean, reward_std = 0.0, 1.0

    def __init__(self, scores: torch.Tensor, reference: torch.Tensor) -> None:
        self.arm_scores, self.reference = scores, reference.log()
        self.policy = Bandit(self.reference)
        self.value = nn.Parameter(torch.zeros(1))
        self.policy_parameters, self.value_parameters = [self.policy.logits], [self.value]

    def policy_logits(self, sequences):
        return self.policy.logits.expand(len(sequences), -1)

    def reference_logits(self, sequences):
        return self.reference.expand(len(sequences), -1)

    def values(self, sequences):
        return self.value.expand(len(sequences), 1)

    def scores(self, sequences):
        return self.arm_scores[sequences.response_ids[:, 0]]

    @contextmanager
    def sampling(self):
        yield self.policy


def test_sampled_ppo_reaches_the_closed_form_optimum_of_the_bandit():
    """P13: π* ∝ π_ref · e^(score/β), β = .5; total variation below .03 from samples alone."""
    scores = torch.tensor([1.0, 0.5, 0.0, -0.5, 0.8, -1.0])
    reference = torch.tensor([0.05, 0.3, 0.25, 0.2, 0.1, 0.1])
    roles = BanditRoles(scores, reference)
    config = tiny_roles.config(
        iterations=120,
        rollout_batch_size=256,
        micro_batch_size=256,
        minibatches=1,
        epochs=2,
        max_new_tokens=1,
        learning_rate=0.05,
        value_learning_rate=0.05,
        kl_coef=0.5,
        whiten_advantages=False,
    )
    log = Log()
    ppo.train(roles, [[1]], config, tracker=log, seed=0)
    optimum = (reference.log() + scores / 0.5).softmax(-1)
    reached = roles.policy.logits.detach().softmax(-1)
    start = (reference - optimum).abs().sum().item() / 2
    assert start > 0.3
    assert (reached - optimum).abs().sum().item() / 2 < 0.03
    exact_kl = (reached * (reached.log() - reference.log())).sum().item()
    sampled_kl = [row["ppo/kl/sequence"] for row in log.rows[-20:]]
    assert sum(sampled_kl) / 20 == pytest.approx(exact_kl, abs=0.05)


@pytest.mark.parametrize(
    ("layout", "learning_rate", "gain"), [("separate", 1e-2, 0.2), ("shared", 3e-2, 0.1)]
)
def test_a_rewarded_kind_of_token_becomes_likely_and_a_kl_price_holds_it_back(
    layout, learning_rate, gain, tmp_path
):
    """P33: the score is the share of ids above 150. At β = 3 the score stays and KL is half."""
    ends = {}
    for kl_coef in (0.0, 3.0):
        if layout == "separate":
            roles = tiny_roles.separate(critic_init="zero")
        else:
            roles = tiny_roles.shared(tmp_path, critic_init="zero")
        roles.scores = lambda batch: masked_rows(batch.response_ids > 150, batch.response_mask)
        config = tiny_roles.config(
            iterations=20,
            rollout_batch_size=48,
            micro_batch_size=48,
            minibatches=1,
            epochs=4,
            learning_rate=learning_rate,
            kl_coef=kl_coef,
            missing_eos="subtract",
            missing_eos_penalty=0.0,
        )
        log = Log()
        ppo.train(roles, PROMPTS, config, tracker=log, seed=0)
        ends[kl_coef] = [
            sum(row[name] for row in log.rows[-5:]) / 5
            for name in ("ppo/reward/score", "ppo/kl/token_k3")
        ]
    start = log.rows[0]["ppo/reward/score"]
    (score, kl), (priced_score, priced_kl) = ends[0.0], ends[3.0]
    assert score > start + gain
    assert priced_score < start + 0.05
    assert priced_kl < kl / 2


def masked_rows(hits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Share of each row's tokens that hit, [b]."""
    return (hits & mask).sum(-1) / mask.sum(-1)
