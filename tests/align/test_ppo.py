"""PPO: the invariants of its first step, its bookkeeping, its guard, and a bandit it must solve."""

from __future__ import annotations

import dataclasses
import itertools
import math
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import GenerationConfig

from align import ppo, ppo_metrics
from align.errors import DivergedError
from align.masks import masked_mean
from align.optimiser import Optimisers
from align.ppo import adapt, cycle, estimate, measure, sample, score, shape, update
from align.rollout import Sample, collate
from align.types import Measured, Rollout
from tests import ragged, tiny, tiny_roles
from tests.oracles import maths as oracle
from tests.tiny_roles import PROMPTS, Log

BUILDS = [tiny.llama, tiny.gpt2]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def collect(roles, config, *, kl_coef=0.1, prompts=PROMPTS * 2):
    """Steps 1 to 5."""
    samples, sequences = sample(roles, prompts, config, generator=generator())
    scores, raw_scores = score(roles, samples, sequences, config)
    measured = measure(roles, sequences, config)
    rewards = shape(scores, measured, sequences.response_mask, config, kl_coef=kl_coef)
    rollout = estimate(rewards, measured, sequences, config)
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


# The first step -----------------------------------------------------------------------------------


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
    logits = roles.policy_logits(rollout.sequences)
    logprobs = logits.log_softmax(-1).gather(-1, rollout.sequences.response_ids[..., None])
    masked_mean(-rollout.advantages * logprobs[..., 0], rollout.response_mask).backward()
    expected = torch.cat([p.grad.flatten() for p in roles.policy_parameters])
    assert nn.functional.cosine_similarity(got, expected, dim=0).item() == pytest.approx(
        1, abs=1e-5
    )


def test_a_hostile_generation_config_leaves_sampler_and_trainer_in_agreement():
    """P1, P2: top-k 20 and a penalty in the model's config; T = .7; log π to 1e-4."""
    roles = tiny_roles.separate()
    roles.policy.generation_config = GenerationConfig(top_k=20, repetition_penalty=1.1)
    config = tiny_roles.config(temperature=0.7)
    found = collect(roles, config)
    sampled = torch.tensor([x for each in found.samples for x in each.logprobs])
    measured = found.measured.logprobs[found.sequences.response_mask]
    torch.testing.assert_close(sampled, measured, rtol=0, atol=1e-4)
    untempered = measure(roles, found.sequences, tiny_roles.config()).logprobs
    assert (untempered[found.sequences.response_mask] - sampled).abs().mean() > 0.1


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


# Rewards ------------------------------------------------------------------------------------------


def test_missing_eos_table():
    """P8: eos, custom stop, none, eos in the prompt only; by the sampler's word, not by ids."""
    roles = tiny_roles.separate(stop_ids=[1, 2])
    samples = [
        Sample([50, 1], True, [0.0] * 2),
        Sample([50, 2], True, [0.0] * 2),
        Sample([50, 51], False, [0.0] * 2),
        Sample([52, 53], False, [0.0] * 2),
    ]
    sequences = collate([[5], [5], [5], [1, 5, 1]], samples, pad_id=0)
    replace = tiny_roles.config(missing_eos="replace", missing_eos_penalty=-1.0)
    subtract = tiny_roles.config(missing_eos="subtract", missing_eos_penalty=1.0)
    replaced, raw = score(roles, samples, sequences, replace)
    subtracted, _ = score(roles, samples, sequences, subtract)
    assert torch.equal(replaced, torch.tensor([raw[0], raw[1], -1.0, -1.0]))
    assert torch.equal(subtracted, torch.tensor([raw[0], raw[1], raw[2] - 1, raw[3] - 1]))


def test_scores_are_normalised_and_clipped_before_the_missing_eos_rule():
    roles = tiny_roles.separate(reward_mean=1.0, reward_std=0.1)
    found = collect(roles, tiny_roles.config(reward_clip=2.0, missing_eos_penalty=-7.0))
    finished = torch.tensor([each.finished for each in found.samples])
    expected = ((found.raw_scores - 1.0) / 0.1).clamp(-2, 2)
    assert finished.any()
    assert not finished.all()
    torch.testing.assert_close(found.scores[finished], expected[finished])
    assert (found.scores[finished.logical_not()] == -7).all()


def test_an_affine_reward_model_gives_the_same_advantages_once_normalised():
    """P16: r → 3 r + 2 with its own mean and deviation."""
    config = tiny_roles.config()
    plain = tiny_roles.separate(reward_mean=0.2, reward_std=0.5)
    affine = tiny_roles.separate(reward_mean=0.2 * 3 + 2, reward_std=0.5 * 3)
    raw = affine.scores
    affine.scores = lambda sequences: 3 * raw(sequences) + 2
    affine.value_head = plain.value_head  # each critic had copied its own reward head
    found = [collect(roles, config).rollout.advantages for roles in (plain, affine)]
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_advantages_are_whitened_over_the_whole_rollout_and_returns_are_not():
    """P17, P19: mean 0 and variance 1 over all tokens; returns do not notice the flag."""
    roles = tiny_roles.separate()
    white = collect(roles, tiny_roles.config()).rollout
    plain = collect(roles, tiny_roles.config(whiten_advantages=False)).rollout
    tokens = white.advantages[white.response_mask]
    assert tokens.mean().item() == pytest.approx(0, abs=1e-5)
    assert tokens.var(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert torch.equal(white.returns, plain.returns)
    assert not white.returns.requires_grad
    torch.testing.assert_close(
        plain.returns,
        plain.advantages + plain.old_values * (plain.response_mask),
        rtol=1e-5,
        atol=1e-6,
    )


def test_the_kl_price_is_in_the_reward():
    """P13: rewards fall by kl_coef · (log π − log π_ref) per token, of either sign."""
    roles, config = tiny_roles.separate(), tiny_roles.config()
    with torch.no_grad():
        for parameter in roles.policy_parameters:
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator()))
    found = collect(roles, config)
    mask = found.sequences.response_mask
    free, priced = (shape(found.scores, found.measured, mask, config, kl_coef=k) for k in (0, 0.5))
    log_ratio = found.measured.logprobs - found.measured.ref_logprobs
    torch.testing.assert_close((free - priced)[mask], 0.5 * log_ratio[mask], rtol=1e-4, atol=1e-6)
    assert log_ratio[mask].min() < 0 < log_ratio[mask].max()


def test_rewards_are_whitened_about_their_mean_if_asked():
    """P17: variance 1, and the mean stays where it was."""
    roles = tiny_roles.separate()
    found = collect(roles, tiny_roles.config())
    mask, arguments = found.sequences.response_mask, (found.scores, found.measured)
    plain = shape(*arguments, mask, tiny_roles.config(), kl_coef=0.1)[mask]
    white = shape(*arguments, mask, tiny_roles.config(whiten_rewards=True), kl_coef=0.1)[mask]
    assert white.mean().item() == pytest.approx(plain.mean().item(), abs=1e-5)
    assert white.var(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert plain.var().item() < 0.9


def test_gamma_and_lambda_reach_the_returns():
    roles = tiny_roles.separate()
    config = tiny_roles.config(gamma=0.5, gae_lambda=0.7, whiten_advantages=False)
    found = collect(roles, config)
    rewards = shape(
        found.scores, found.measured, found.sequences.response_mask, config, kl_coef=0.1
    )
    lengths = [len(each.response) for each in found.samples]
    arguments = (rewards.tolist(), found.measured.values.tolist(), lengths)
    advantages, returns = oracle.gae(*arguments, 0.5, 0.7)
    torch.testing.assert_close(
        found.rollout.advantages, torch.tensor(advantages), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(found.rollout.returns, torch.tensor(returns), rtol=1e-4, atol=1e-5)


# Optimisation -------------------------------------------------------------------------------------


def test_one_optimiser_step_per_minibatch_in_every_iteration(monkeypatch):
    """P24: 3 iterations × 2 epochs × 3 minibatches = 18; micro-batches add none, nor the end."""
    counts: list[int] = []
    plain = torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam, "step", lambda self: (counts.append(id(self)), plain(self))
    )
    config = tiny_roles.config(iterations=3, epochs=2, minibatches=3, micro_batch_size=1)
    per_iteration: list[int] = []
    log = SimpleNamespace(log=lambda *_, **__: per_iteration.append(len(counts)))
    ppo.train(tiny_roles.separate(), PROMPTS, config, tracker=log, seed=0)
    assert per_iteration == [12, 24, 36]  # policy and critic, 6 each
    assert sorted(counts.count(each) for each in set(counts)) == [18, 18]


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


@pytest.mark.parametrize("micro_batch_size", [1, 5, 8])
def test_the_step_does_not_depend_on_the_micro_batches(micro_batch_size):
    """P25: gradients of 12 ragged episodes in one piece or in pieces of 1, 5 or 8 agree to 1e-6."""
    gradients, readings = [], []
    for size in (12, micro_batch_size):
        roles = tiny_roles.separate()
        config = tiny_roles.config(minibatches=1, epochs=1, micro_batch_size=size)
        rollout = collect(roles, tiny_roles.config(micro_batch_size=12)).rollout
        assert len(set(rollout.response_mask.sum(-1).tolist())) > 3
        optimisers = with_sgd(roles, config, lr=0.0)
        (step,) = update(roles, rollout, optimisers, config, generator=generator())
        readings.append(step)
        parameters = [*roles.policy_parameters, *roles.value_parameters]
        gradients.append(torch.cat([p.grad.flatten() for p in parameters]))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)
    assert readings[1] == pytest.approx(readings[0], rel=1e-4, abs=1e-5)


def test_the_gradient_is_clipped_and_its_norm_before_clipping_reported():
    """P26: with plain descent at rate .1 a step is .1 · max_norm long, whatever the gradient."""
    roles, config = tiny_roles.separate(), tiny_roles.config(minibatches=1, epochs=1)
    rollout = collect(roles, config).rollout
    norms = {}
    for limit in (1e9, 0.01):
        config = tiny_roles.config(minibatches=1, epochs=1, max_grad_norm=limit)
        twin = tiny_roles.separate()
        before = weights(twin.policy_parameters)
        optimisers = with_sgd(twin, config, lr=0.1)
        (step,) = update(twin, rollout, optimisers, config, generator=generator())
        norms[limit] = (step["policy/grad_norm"], moved(twin.policy_parameters, before))
    (free_norm, free_way), (norm, way) = norms[1e9], norms[0.01]
    assert norm == pytest.approx(free_norm, rel=1e-5)
    assert free_norm > 0.05
    assert free_way == pytest.approx(0.1 * free_norm, rel=1e-3)
    assert way == pytest.approx(0.1 * 0.01, rel=1e-2)


def test_the_clips_of_the_recipe_reach_their_losses():
    """A far-off old policy and old value, so that each clip bites: the losses are the oracle's."""
    roles = tiny_roles.separate()
    config = tiny_roles.config(
        minibatches=1, epochs=1, clip_range=0.1, dual_clip=1.2, value_clip_range=0.05
    )
    rollout = collect(roles, config).rollout
    lengths = rollout.response_mask.sum(-1).tolist()
    now = measure(roles, rollout.sequences, config)
    shift = 0.5 * torch.randn(rollout.returns.shape, generator=generator(5))
    rollout = dataclasses.replace(
        rollout, old_logprobs=now.logprobs + shift, old_values=now.values + shift
    )
    (step,) = update(roles, rollout, with_sgd(roles, config, lr=0.0), config, generator=generator())
    old, values = rollout.old_logprobs.tolist(), rollout.old_values.tolist()
    policy_loss = oracle.ppo_policy_loss(
        now.logprobs.tolist(), old, rollout.advantages.tolist(), lengths, 0.1, 1.2
    )
    value_loss = oracle.ppo_value_loss(
        now.values.tolist(), values, rollout.returns.tolist(), lengths, 0.05
    )
    assert step["policy/loss"] == pytest.approx(policy_loss, rel=1e-4)
    assert step["value/loss"] == pytest.approx(value_loss, rel=1e-4)
    assert step["policy/clip_fraction"] > 0.3
    assert step["value/clip_fraction"] > 0.1


def test_adam_takes_the_rate_and_epsilon_of_the_recipe():
    config = tiny_roles.config(adam_eps=1e-3, learning_rate=2e-4, value_learning_rate=5e-4)
    policy, value = Optimisers.of(tiny_roles.separate(), config)
    assert (policy.adam.defaults["eps"], value.adam.defaults["eps"]) == (1e-3, 1e-3)
    assert (policy.adam.defaults["lr"], value.adam.defaults["lr"]) == (2e-4, 5e-4)


def test_during_the_critics_warm_up_the_policy_stands_still():
    """P23: two iterations change no bit of the policy and every part of the critic's head."""
    roles = tiny_roles.separate(critic_init="zero")
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


def test_the_critic_learns_a_linear_value():
    """P22: returns linear in the state are explained to more than .9 after 60 epochs."""
    roles = tiny_roles.separate(critic_init="zero")
    config = tiny_roles.config(
        minibatches=1, epochs=60, value_learning_rate=3e-3, micro_batch_size=12
    )
    rollout = collect(roles, config).rollout
    teacher = nn.Linear(32, 1)
    with torch.no_grad():
        own, roles.value_head = roles.value_head, teacher
        returns = 3 * roles.values(rollout.sequences) * rollout.response_mask
        roles.value_head = own
    rollout = Rollout(
        rollout.sequences, rollout.old_logprobs, rollout.old_values, rollout.advantages, returns
    )
    update(
        roles,
        rollout,
        Optimisers.of(roles, config),
        config,
        generator=generator(),
        policy_too=False,
    )
    with torch.no_grad():
        values = roles.values(rollout.sequences)
    explained = ppo_metrics.explained_variance(values, returns, rollout.response_mask)
    assert explained.item() > 0.9


def test_learning_rates_fall_linearly_per_iteration_or_stay():
    """P27: 4 iterations from 1e-3: 1, ¾, ½, ¼ of it."""
    for schedule, shares in (("linear", [1, 0.75, 0.5, 0.25]), ("constant", [1, 1, 1, 1])):
        log = Log()
        config = tiny_roles.config(
            iterations=4, epochs=1, lr_schedule=schedule, value_learning_rate=4e-3
        )
        ppo.train(tiny_roles.separate(), PROMPTS, config, tracker=log, seed=0)
        rates = [row["ppo/optimiser/learning_rate"] for row in log.rows]
        assert rates == pytest.approx([1e-3 * share for share in shares])
        rates = [row["ppo/optimiser/value_learning_rate"] for row in log.rows]
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


# Metrics, guard, repetition -----------------------------------------------------------------------


def test_padding_columns_change_no_metric():
    """P28: KL, entropy, explained variance, length and sampler gap with three more columns."""
    roles, config = tiny_roles.separate(), tiny_roles.config()
    with torch.no_grad():
        roles.policy_parameters[0].add_(0.01)
    found = collect(roles, config)
    widened = {
        name: ragged.widen(getattr(found.rollout, name), 3, 50.0)
        for name in ("old_logprobs", "old_values", "advantages", "returns")
    }
    rollout = Rollout(tiny_roles.widened(found.sequences, right=3), **widened)
    measured = Measured(*(ragged.widen(x, 3, -50.0) for x in found.measured))
    readings = [
        ppo_metrics.describe(found.samples, found.scores, found.raw_scores, *numbers, kl_coef=0.1)
        for numbers in ((found.measured, found.rollout), (measured, rollout))
    ]
    assert readings[1] == pytest.approx(readings[0], rel=1e-5, abs=1e-7)
    assert readings[0]["ppo/policy/entropy"] > 0
    assert readings[0]["ppo/kl/token_k3"] > 0


def test_metrics_say_what_the_table_says():
    """Against a second way of counting, on one rollout."""
    roles, config = tiny_roles.separate(reward_std=2.0), tiny_roles.config()
    with torch.no_grad():
        roles.policy_parameters[0].add_(0.01)
    found = collect(roles, config)
    metrics = ppo_metrics.describe(
        found.samples, found.scores, found.raw_scores, found.measured, found.rollout, kl_coef=0.1
    )
    lengths = [len(each.response) for each in found.samples]
    gaps = (found.measured.logprobs - found.measured.ref_logprobs).tolist()
    per_episode = [sum(row[:n]) for row, n in zip(gaps, lengths, strict=True)]
    assert metrics["ppo/kl/sequence"] == pytest.approx(sum(per_episode) / 12, rel=1e-4)
    assert metrics["ppo/kl/token"] == pytest.approx(sum(per_episode) / sum(lengths), rel=1e-4)
    assert metrics["ppo/response/length"] == pytest.approx(sum(lengths) / 12)
    finished = sum(each.response[-1] in tiny_roles.STOPS for each in found.samples)
    assert metrics["ppo/response/stop_rate"] == pytest.approx(finished / 12)
    shaped = metrics["ppo/reward/normalised"] - 0.1 * metrics["ppo/kl/sequence"]
    assert metrics["ppo/reward/shaped"] == pytest.approx(shaped, rel=1e-5)


def test_a_full_run_emits_the_table_and_an_unlisted_metric_fails():
    log = Log()
    ppo.train(tiny_roles.separate(), PROMPTS, tiny_roles.config(), tracker=log, seed=0)
    for row in log.rows:
        assert row.keys() == ppo_metrics.METRICS.keys()
        assert all(math.isfinite(value) for value in row.values())
    with pytest.raises(AssertionError, match="ppo/new"):
        ppo_metrics.listed({"ppo/new": 1.0})


def test_a_score_that_is_not_a_number_stops_the_run_before_any_step():
    roles = tiny_roles.separate()
    before = weights([*roles.policy_parameters, *roles.value_parameters])
    raw = roles.scores
    roles.scores = lambda sequences: raw(sequences) / 0 * 0
    with pytest.raises(DivergedError, match="score that is not a number"):
        ppo.train(roles, PROMPTS, tiny_roles.config(), tracker=Log(), seed=0)
    assert moved([*roles.policy_parameters, *roles.value_parameters], before) == 0


@pytest.mark.parametrize(("field", "role"), [("advantages", "policy"), ("returns", "value")])
def test_a_loss_that_is_not_a_number_is_stopped_before_its_step(field, role):
    """One NaN among the tokens; the weights of that role are as they were."""
    roles, config = tiny_roles.separate(), tiny_roles.config(minibatches=1, epochs=1)
    rollout = collect(roles, config).rollout
    getattr(rollout, field)[3, 0] = float("nan")
    before = weights(getattr(roles, f"{role}_parameters"))
    with pytest.raises(DivergedError, match=f"{role} loss=nan"):
        update(roles, rollout, Optimisers.of(roles, config), config, generator=generator())
    assert moved(getattr(roles, f"{role}_parameters"), before) == 0


def test_one_seed_is_one_run():
    rows = []
    for seed in (0, 0, 1):
        log = Log()
        ppo.train(tiny_roles.separate(), PROMPTS, tiny_roles.config(), tracker=log, seed=seed)
        rows.append(log.rows)
    assert rows[0] == rows[1]
    assert rows[0] != rows[2]


def test_every_prompt_comes_once_before_any_comes_again():
    prompts = [[n] for n in range(7)]
    batches = cycle(prompts, 3, generator=generator())
    drawn = [prompt[0] for _ in range(7) for prompt in next(batches)]
    assert [sorted(drawn[start : start + 7]) for start in (0, 7, 14)] == [list(range(7))] * 3


# What it is for -----------------------------------------------------------------------------------


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
        return self.policy.logits.expand(len(sequences), 1, -1)

    def reference_logits(self, sequences):
        return self.reference.expand(len(sequences), 1, -1)

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
