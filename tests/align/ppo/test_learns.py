"""What PPO is for, with real models: it raises a reward, and pays for KL."""

from __future__ import annotations

import pytest
import torch

from align.ppo import train as ppo
from tests import tiny_roles
from tests.tiny_roles import PROMPTS, Log


@pytest.mark.parametrize(
    ("layout", "learning_rate", "gain"), [("separate", 1e-2, 0.2), ("shared", 3e-2, 0.1)]
)
def test_a_rewarded_kind_of_token_becomes_likely_and_a_kl_price_holds_it_back(
    layout, learning_rate, gain, tmp_path
):
    """P33a: the score is the share of ids above 150. At β = 3 the score stays and KL is half."""
    ends = {}
    for kl_coef in (0.0, 3.0):
        if layout == "separate":
            roles = tiny_roles.separate(critic="zero")
        else:
            roles = tiny_roles.shared(tmp_path, critic="zero")
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
