"""PPO: the invariants of its first step, its update, its settings, its repetition."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch import nn

from align.maths.timeline import Rollout
from align.ppo import train as ppo
from align.ppo.optimiser import Optimisers
from align.ppo.train import adapt, update
from tests import tiny, tiny_roles
from tests.oracles import maths as oracle
from tests.tiny_ppo import collect, generator, moved, weights, with_sgd
from tests.tiny_roles import PROMPTS, Log

BUILDS = [tiny.llama, tiny.gpt2]


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("layout", ["separate", "shared"])
def test_invariants_of_the_first_step(build, layout, tmp_path):
    """P20 (P3): ratio 1, clip fraction 0, policy loss 0, KL to the reference 0, all to 1e-4."""
    make = tiny_roles.separate if layout == "separate" else tiny_roles.shared
    roles = make(build=build) if layout == "separate" else make(tmp_path, build)
    roles.policy.train() if layout == "separate" else roles.model.train()
    log = Log()
    config = tiny_roles.config(iterations=2, minibatches=1, temperature=0.7)
    ppo.train(roles, PROMPTS, config, tracker=log, seed=0)
    first, second = log.rows
    assert abs(first["ppo/kl/sequence"]) < 1e-4
    assert abs(first["ppo/kl/token_k3"]) < 1e-4
    assert second["ppo/kl/token_k3"] > 1e-4
    for row in log.rows:  # each iteration starts where its own sampling policy was
        assert row["ppo/start/ratio_gap_max"] < 1e-4
        assert row["ppo/start/clip_fraction"] == 0
        assert abs(row["ppo/start/loss"]) < 1e-4
        assert row["ppo/sampler/gap_max"] < 1e-4
    assert first["ppo/policy/ratio_gap_max"] > 1e-3  # later minibatches did move


def test_the_first_gradient_is_that_of_reinforce():
    """P20: cosine 1 with the gradient of −mean A log π."""
    roles, config = tiny_roles.separate(), tiny_roles.config(minibatches=1, epochs=1)
    rollout = collect(roles, config).rollout
    optimisers = with_sgd(roles, config, lr=0.0)
    update(roles, rollout, optimisers, config, generator=generator())
    got = torch.cat([p.grad.flatten() for p in roles.policy_parameters])
    roles.policy.zero_grad()
    logits = roles.policy_outputs(rollout.sequences).logits
    tokens, advantages = (
        each[rollout.response_mask] for each in (rollout.sequences.response_ids, rollout.advantages)
    )
    logprobs = logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
    (-advantages * logprobs).mean().backward()
    expected = torch.cat([p.grad.flatten() for p in roles.policy_parameters])
    assert nn.functional.cosine_similarity(got, expected, dim=0).item() == pytest.approx(
        1, abs=1e-5
    )


@pytest.mark.parametrize("build", BUILDS)
def test_padding_with_the_stop_token_changes_no_number(build):
    """P6: pad == stop and pad ≠ stop give one rollout and one update; a prompt holds stops too."""
    found = {}
    for pad in (0, 1):
        roles = tiny_roles.separate(build, pad_id=pad, stop_ids=[1, 2, 3, 4, 30, 40, 50, 60])
        config = tiny_roles.config(minibatches=1)
        each = collect(roles, config)
        steps = update(
            roles, each.rollout, with_sgd(roles, config, lr=0.1), config, generator=generator()
        )
        found[pad] = (each, steps)
    (apart, steps), (same, same_steps) = found[0], found[1]
    assert [s.response for s in apart.samples] == [s.response for s in same.samples]
    mask = apart.sequences.response_mask
    assert torch.equal(mask, same.sequences.response_mask)
    for name in ("advantages", "returns", "old_logprobs", "old_values"):
        pair = [getattr(each.rollout, name)[mask] for each in (same, apart)]
        torch.testing.assert_close(*pair, rtol=1e-5, atol=1e-5)
    for one, other in zip(steps, same_steps, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)


def test_tokens_after_the_stop_token_cannot_change_a_loss():
    """P7: what stands behind the end is overwritten, in ids and in numbers; all losses stay."""
    roles, config = tiny_roles.separate(), tiny_roles.config(minibatches=1, micro_batch_size=12)
    rollout = collect(roles, config).rollout
    after = rollout.response_mask.logical_not()
    assert after.any()
    ids = rollout.sequences.input_ids.clone()
    ids[:, rollout.sequences.prompt_width :][after] = 123
    sequences = dataclasses.replace(rollout.sequences, input_ids=ids)
    perturbed = Rollout(
        sequences,
        *(
            torch.where(after, 50.0, getattr(rollout, name))
            for name in ("old_logprobs", "old_values", "advantages", "returns")
        ),
    )
    readings = [
        update(roles, each, with_sgd(roles, config, lr=0.0), config, generator=generator())
        for each in (rollout, perturbed)
    ]
    assert readings[0] == [pytest.approx(step, rel=1e-5, abs=1e-6) for step in readings[1]]


def test_each_epoch_visits_every_episode_once(monkeypatch):
    roles, config = tiny_roles.separate(), tiny_roles.config(epochs=2, minibatches=3)
    rollout = collect(roles, config).rollout
    visited: list[list[int]] = []
    plain = Rollout.select

    def spy(self, rows):
        if len(self) == len(rollout):
            visited.append(rows.tolist())
        return plain(self, rows)

    monkeypatch.setattr(Rollout, "select", spy)
    update(roles, rollout, Optimisers.of(roles, config), config, generator=generator())
    assert [len(rows) for rows in visited] == [4] * 6
    first, second = (list(itertools.chain(*visited[at : at + 3])) for at in (0, 3))
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second


def test_the_clips_of_the_recipe_reach_their_losses():
    """A far-off old policy and old value, so that each clip bites: the losses are the oracle's."""
    roles = tiny_roles.separate()
    config = tiny_roles.config(
        minibatches=1, epochs=1, clip_range=0.1, dual_clip=1.2, value_clip_range=0.05
    )
    found = collect(roles, config)
    rollout, now = found.rollout, found.measured
    lengths = rollout.response_mask.sum(-1).tolist()
    shift = 0.5 * torch.randn(rollout.returns.shape, generator=generator(5))
    rollout = dataclasses.replace(
        rollout, old_logprobs=now.logprobs + shift, old_values=now.values + shift
    )
    (step,) = update(roles, rollout, with_sgd(roles, config, lr=0.0), config, generator=generator())
    old, values = rollout.old_logprobs.tolist(), rollout.old_values.tolist()
    policy_loss = oracle.ppo_policy_loss(
        now.logprobs.tolist(), old, rollout.advantages.tolist(), lengths, 0.1, 1.2
    )
    returns_std = rollout.returns[rollout.response_mask].std(correction=0).item()
    value_loss = oracle.ppo_value_loss(
        now.values.tolist(), values, rollout.returns.tolist(), lengths, 0.05 * returns_std
    )
    assert step["ppo/policy/loss"] == pytest.approx(policy_loss, rel=1e-4)
    assert step["ppo/value/loss"] == pytest.approx(value_loss, rel=1e-4)
    assert step["ppo/policy/clip_fraction"] > 0.3
    assert step["ppo/value/clip_fraction"] > 0.1


def test_the_value_clip_is_in_units_of_the_returns_spread():
    """P22: returns and values a hundred times as large clip the same tokens."""
    config = tiny_roles.config(minibatches=1, epochs=1, value_clip_range=0.2, reward_clip=None)
    readings = []
    for scale in (1.0, 100.0):
        roles = tiny_roles.separate()
        rollout = collect(roles, config).rollout
        head, old = roles.value_head, rollout.old_values + 0.3
        with torch.no_grad():
            head.weight.mul_(scale), head.bias.mul_(scale)
        scaled = dataclasses.replace(
            rollout, old_values=scale * old, returns=scale * rollout.returns
        )
        optimisers = with_sgd(roles, config, lr=0.0)
        (step,) = update(roles, scaled, optimisers, config, generator=generator())
        readings.append(step)
    small, large = readings
    assert 0.05 < small["ppo/value/clip_fraction"] < 0.95
    assert large["ppo/value/clip_fraction"] == pytest.approx(
        small["ppo/value/clip_fraction"], abs=1e-6
    )
    assert large["ppo/value/loss"] == pytest.approx(1e4 * small["ppo/value/loss"], rel=1e-4)


def test_during_the_critics_warm_up_the_policy_stands_still():
    """P23: two iterations change no bit of the policy and every part of the critic's head."""
    roles = tiny_roles.separate(critic="zero")
    policy, head = weights(roles.policy_parameters), weights(roles.value_head.parameters())
    log = Log()
    config = tiny_roles.config(iterations=3, critic_warmup=2, kl_target=1.0)
    at: list[float] = []
    log_rows = log.log

    def spy(step, metrics, **rest):
        at.append(moved(roles.policy_parameters, policy))
        log_rows(step, metrics, **rest)

    log.log = spy
    ppo.train(roles, PROMPTS, config, tracker=log, seed=0)
    assert at[:2] == [0, 0]
    assert at[2] > 0
    assert moved(roles.value_head.parameters(), head) > 1e-3
    assert "ppo/policy/loss" not in log.rows[1]
    assert "ppo/policy/loss" in log.rows[2]
    assert [row["ppo/kl/coef"] for row in log.rows] == [0.05] * 3  # KL 0 is nobody's merit yet


def test_learning_rates_fall_linearly_per_iteration_or_stay():
    """P27: 4 iterations from 1e-3: 1, ¾, ½, ¼ of it."""
    for schedule, shares in (("linear", [1, 0.75, 0.5, 0.25]), ("constant", [1, 1, 1, 1])):
        log = Log()
        config = tiny_roles.config(
            iterations=4, epochs=1, lr_schedule=schedule, value_learning_rate=4e-3
        )
        ppo.train(tiny_roles.separate(), PROMPTS, config, tracker=log, seed=0)
        rates = [row["ppo/policy/learning_rate"] for row in log.rows]
        assert rates == pytest.approx([1e-3 * share for share in shares])
        rates = [row["ppo/value/learning_rate"] for row in log.rows]
        assert rates == pytest.approx([4e-3 * share for share in shares])


@pytest.mark.parametrize(
    ("kl_target", "sequence_kl", "expected"),
    [(None, 12, 0.15), (6, 12, 0.151536), (6, 6, 0.15), (6, 3, 0.148464)],
)
def test_the_kl_coefficient_is_fixed_or_steers(kl_target, sequence_kl, expected):
    """P15: per-sequence KL against the target, n = the episodes of the rollout."""
    config = tiny_roles.config(kl_target=kl_target, rollout_batch_size=512)
    optimisers = Optimisers.of(tiny_roles.separate(), config)
    settings = {"iteration": 0, "kl_coef": 0.15, "sequence_kl": sequence_kl}
    assert adapt(optimisers, config, **settings) == pytest.approx(expected, abs=1e-12)


def test_one_seed_is_one_run():
    rows = []
    for seed in (0, 0, 1):
        log = Log()
        ppo.train(tiny_roles.separate(), PROMPTS, tiny_roles.config(), tracker=log, seed=seed)
        rows.append(log.rows)
    assert rows[0] == rows[1]
    assert rows[0] != rows[2]
