"""What PPO is for, with real models: it raises a reward, and pays for KL."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from align.maths.kl import full_kl
from align.ppo import train as ppo
from tests import tiny_roles
from tests.tiny_ppo import generator
from tests.tiny_roles import PROMPTS, Log

GAIN, PRICED_GAIN, CLIPPED = 0.1, 0.03, 0.15
LEARNING_RATES = {"separate": 1e-3, "shared": 7e-3}


@pytest.mark.parametrize("layout", LEARNING_RATES)
def test_a_rewarded_kind_of_token_becomes_likely_and_a_kl_price_holds_it_back(layout, tmp_path):
    """P33a: the score is the share of ids above 150; at β = 3 it hardly rises.

    Few tokens meet the clip, so that rounding does not decide where the run ends.
    """
    free, priced = (outcome(layout, tmp_path, kl_coef=kl_coef) for kl_coef in (0.0, 3.0))
    print(f"{layout}: free {free}, priced {priced}")
    assert max(free.clipped, priced.clipped) < CLIPPED
    assert free.gain > GAIN
    assert abs(priced.gain) < PRICED_GAIN
    assert priced.kl < free.kl / 4


class Outcome(NamedTuple):
    gain: float  # of the probability of ids above 150, from before the run to after it
    kl: float  # nats per token, exact, of policy from reference
    clipped: float  # the largest clip fraction of an iteration


def outcome(layout: str, folder: Path, *, kl_coef: float, seed: int = 0) -> Outcome:
    """Train, and read the policy's whole distributions, which no sampling of tokens blurs."""
    if layout == "separate":
        roles = tiny_roles.separate(critic="zero")
    else:
        roles = tiny_roles.shared(folder, critic="zero")
    roles.scores = lambda batch: masked_rows(batch.response_ids > 150, batch.response_mask)
    config = tiny_roles.config(
        iterations=20,
        rollout_batch_size=96,
        micro_batch_size=24,
        minibatches=4,
        epochs=1,
        learning_rate=LEARNING_RATES[layout],
        lr_schedule="constant",
        kl_coef=kl_coef,
        max_new_tokens=4,
        missing_eos="subtract",
        missing_eos_penalty=0.0,
    )
    log, (before, _) = Log(), likely(roles, config)
    ppo.train(roles, PROMPTS, config, tracker=log, seed=seed)
    after, kl = likely(roles, config)
    return Outcome(after - before, kl, max(row["ppo/policy/clip_fraction"] for row in log.rows))


@torch.no_grad()
def likely(roles, config) -> tuple[float, float]:
    """Mean probability of ids above 150, and mean KL, over the tokens of 120 responses."""
    _, batch = ppo.sample(roles, PROMPTS * 20, config, generator=generator(1))
    logits, reference = roles.policy_outputs(batch).logits, roles.reference_logits(batch)
    probability = logits.softmax(dim=-1)[:, 151:].sum(dim=-1).mean().item()
    return probability, full_kl(logits[None], reference[None]).mean().item()


def masked_rows(hits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Share of each row's tokens that hit, [b]."""
    return (hits & mask).sum(-1) / mask.sum(-1)
