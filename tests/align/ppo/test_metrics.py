"""Metrics: one table, and numbers that padding cannot move."""

from __future__ import annotations

import math
import re
import subprocess
import sys

import pytest
import torch

from align.maths.losses import ppo_policy_loss, ppo_value_loss
from align.maths.timeline import Measured, Rollout
from align.ppo import metrics as ppo_metrics
from align.ppo import train as ppo
from tests import ragged, tiny_roles
from tests.oracles import maths as oracle
from tests.tiny_ppo import collect
from tests.tiny_roles import PROMPTS, Log


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
    samples = [each._replace(logprobs=[n - 0.5 for n in each.logprobs]) for each in found.samples]
    metrics = ppo_metrics.describe(
        samples, found.scores, found.raw_scores, found.measured, found.rollout, kl_coef=0.1
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
    assert metrics["ppo/sampler/gap_mean"] == pytest.approx(0.5, abs=1e-4)
    assert metrics["ppo/sampler/gap_max"] == pytest.approx(0.5, abs=1e-3)
    values, returns = (
        oracle.valid(each.tolist(), lengths)
        for each in (found.rollout.old_values, found.rollout.returns)
    )
    errors = [r - v for r, v in zip(returns, values, strict=True)]
    assert metrics["ppo/value/explained_variance"] == pytest.approx(
        1 - oracle.variance(errors) / oracle.variance(returns), rel=1e-4
    )


OCCASIONAL = re.compile("ppo/(probe|alarm)/")


def test_a_full_run_emits_the_table_and_an_unlisted_metric_fails():
    log = Log()
    ppo.train(tiny_roles.separate(), PROMPTS, tiny_roles.config(), tracker=log, seed=0)
    for row in log.rows:
        assert row.keys() == {key for key in ppo_metrics.METRICS if not OCCASIONAL.match(key)}
        assert all(math.isfinite(value) for value in row.values())
    with pytest.raises(AssertionError, match="ppo/new"):
        ppo_metrics.listed({"ppo/new": 1.0})


P = "ppo/policy"


def test_steps_are_averaged_maxima_kept_and_the_first_step_told_apart():
    steps = [
        {f"{P}/loss": 1.0, f"{P}/clip_fraction": 0.0, f"{P}/ratio_gap_max": 3.0},
        {f"{P}/loss": 2.0, f"{P}/clip_fraction": 0.5, f"{P}/ratio_gap_max": 1.0},
    ]
    summary = ppo_metrics.average_steps(steps)
    assert summary["ppo/policy/loss"] == 1.5
    assert summary["ppo/policy/ratio_gap_max"] == 3.0
    starts = {name: value for name, value in summary.items() if "/start/" in name}
    assert starts == {
        "ppo/start/loss": 1.0,
        "ppo/start/clip_fraction": 0.0,
        "ppo/start/ratio_gap_max": 3.0,
    }


def test_every_metric_has_a_unit_and_one_row():
    keys = [metric.key for metric in ppo_metrics.TABLE]
    assert len(set(keys)) == len(keys) == len(ppo_metrics.METRICS)
    assert all(metric.unit and metric.meaning for metric in ppo_metrics.TABLE)
    assert ppo_metrics.HEADLINE == ("ppo/reward/score", "ppo/kl/sequence", "ppo/response/length")


def test_what_a_loss_returns_keeps_its_name_to_the_end():
    """From the loss through the optimiser step to metrics.jsonl: `ppo/ROLE/` before it, no more."""
    one, mask = torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool)
    policy = ppo_policy_loss(one, one, one, mask, clip_range=0.2)
    value = ppo_value_loss(one, one, one, mask, value_clip_range=0.2)
    keys = {f"ppo/policy/{name}" for name in policy.metrics}
    keys |= {f"ppo/value/{name}" for name in value.metrics}
    log = Log()
    config = tiny_roles.config(iterations=1)
    ppo.train(tiny_roles.separate(), PROMPTS, config, tracker=log, seed=0)
    assert keys and keys <= log.rows[0].keys() <= ppo_metrics.METRICS.keys()


def test_the_table_is_read_without_torch():
    code = "import sys, align.ppo.metrics; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
