"""Real PPO runs on tiny models: each one broken on purpose raises its alarm, a sound one none."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from functools import partial

import pytest
import torch

from align.data import EncodedPrompt
from align.maths.logprobs import entropy
from align.messages.errors import DivergedError
from align.ppo import train as ppo
from align.ppo.monitor import Monitor
from align.sampling.sampler import ModelSampler
from tests import tiny, tiny_roles
from tests.tiny_roles import PROMPTS, Log

SMALL = partial(tiny.llama, vocab_size=40)
SMALL_PROMPTS = [EncodedPrompt(ids) for ids in ([5, 9, 30], [7], [8, 20, 31, 4], [11, 12])]


def run(roles, *, prompts=PROMPTS, monitor=None, **settings):
    """Names of the alarms of a run, each with the iteration in which it first began."""
    defaults = {
        "iterations": 10,
        "rollout_batch_size": 48,
        "micro_batch_size": 48,
        "minibatches": 1,
        "kl_coef": 0.1,
        "missing_eos": "subtract",
        "missing_eos_penalty": 0.0,
    }
    config = tiny_roles.config(**(defaults | settings))
    log = Log()
    monitor = monitor(config) if monitor else Monitor(config, warn=lambda line: None)
    ppo.train(roles, prompts, config, tracker=log, seed=0, monitor=monitor)
    begun: dict[str, int] = {}
    for iteration, row in enumerate(log.rows, start=1):
        for key in row:
            if key.startswith("ppo/alarm/"):
                begun.setdefault(key.removeprefix("ppo/alarm/"), iteration)
    return begun


def share_above_half(batch):
    """A reward that can be learned: the share of a response's ids in the upper half."""
    hits = (batch.response_ids > 150) & batch.response_mask
    return hits.sum(-1) / batch.response_mask.sum(-1)


def rewarded(scores, build=tiny.llama, **settings):
    roles = tiny_roles.separate(build, critic="zero", **settings)
    roles.scores = scores
    return roles


@pytest.mark.parametrize("seed", [0, 1])
def test_a_sound_run_raises_no_alarm(seed):
    """P32: what is learned within bounds is told by no rule."""
    roles = rewarded(share_above_half, partial(tiny.llama, seed))
    assert run(roles, iterations=12, value_learning_rate=3e-3) == {}


def test_a_learning_rate_a_hundred_times_too_high():
    """P32."""
    begun = run(rewarded(share_above_half), iterations=5, learning_rate=0.1)
    assert begun["kl_far"] == begun["clip_high"] == 3


def test_on_alarm_stop_ends_such_a_run():
    """P32."""
    with pytest.raises(DivergedError, match="on_alarm=stop"):
        run(rewarded(share_above_half), iterations=5, learning_rate=0.1, on_alarm="stop")


@pytest.mark.parametrize("told", ["of what it sampled from", "of the whole distribution"])
def test_a_sampler_with_top_k_is_found_in_the_first_iteration(told, monkeypatch):
    """P1, P3: also where it reports log-probabilities as if it had not cut anything."""
    choose = ModelSampler._choose

    def top_k(self, logits, uniforms):
        smallest = logits.topk(20, dim=-1).values[:, -1:]
        cut = logits.masked_fill(logits < smallest, -torch.inf)
        chosen, logprobs, entropies = choose(self, cut, uniforms)
        if told == "of the whole distribution":
            logprobs = logits.log_softmax(-1).gather(-1, chosen[:, None])[:, 0]
            entropies = entropy(logits)
        return chosen, logprobs, entropies

    monkeypatch.setattr(ModelSampler, "_choose", top_k)
    begun = run(rewarded(share_above_half), iterations=2)
    honest = {"sampler_gap": 1} if told == "of what it sampled from" else {}
    assert begun == honest | {"sampler_biased": 1}


def test_a_sampler_that_never_gets_the_new_weights_makes_kl_negative():
    """P3: stale weights; k1 is then −KL(reference ‖ policy) on average."""
    roles = rewarded(share_above_half)
    stale = copy.deepcopy(roles.policy)
    roles.sampling = lambda: nullcontext(stale)
    begun = run(roles, iterations=3, learning_rate=3e-3)
    assert begun["negative_kl"] == begun["sampler_gap"] == 2


def test_an_update_that_computes_other_logprobs_is_found_in_the_first_iteration():
    """P3: a temperature of 1.01 that the measurement lacks."""
    roles = rewarded(share_above_half)
    plain = roles.policy_outputs

    def warmer(batch):
        found = plain(batch)
        heat = 1.01 if torch.is_grad_enabled() else 1
        return found._replace(logits=found.logits / heat)

    roles.policy_outputs = warmer
    assert run(roles, iterations=2)["ratio_off"] == 1


def test_a_stop_token_that_cannot_come():
    """P32: no stop tokens, all at the cap."""
    begun = run(rewarded(share_above_half, stop_ids=[999]), iterations=3)
    assert begun == {"no_stops": 3, "length_cap": 3}


def test_a_reward_for_length():
    """P32: drift first, then the end of stopping."""
    roles = rewarded(lambda batch: batch.response_mask.sum(-1) / 8, SMALL, stop_ids=[1, 2, 3, 4])
    begun = run(
        roles,
        prompts=SMALL_PROMPTS,
        iterations=13,
        learning_rate=1e-2,
        epochs=4,
        lr_schedule="constant",
        kl_coef=0.0,
        max_new_tokens=24,
    )
    assert {"length_drift", "no_stops"} <= begun.keys()
    assert begun["length_drift"] < begun["no_stops"]


def count_of_30(batch):
    return ((batch.response_ids == 30) & batch.response_mask).sum(-1).float()


KILLING = {"learning_rate": 1e-2, "epochs": 4, "lr_schedule": "constant", "kl_coef": 0.0}


def test_a_reward_for_one_token_kills_the_entropy():
    """P32."""
    roles = rewarded(count_of_30, SMALL, stop_ids=[1, 2, 3, 4])
    begun = run(roles, prompts=SMALL_PROMPTS, iterations=14, **KILLING)
    assert "entropy_collapse" in begun


def test_a_critic_that_starts_badly_and_does_not_learn():
    roles = tiny_roles.separate()
    with torch.no_grad():
        roles.value_head.weight.mul_(-5)
    assert run(roles, iterations=10, value_learning_rate=1e-12) == {"critic_blind": 10}
