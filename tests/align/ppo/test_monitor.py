"""The monitor: an alarm is told when it begins and when it is over, and is remembered."""

from __future__ import annotations

import json

import pytest
import torch

from align.data import EncodedPrompt
from align.messages.errors import DivergedError
from align.ppo import train as ppo
from align.ppo.monitor import CALM, Monitor
from align.ppo.probe import GoldProbe
from align.runs.tracking import Tracker, read_metrics
from tests import tiny_roles
from tests.align.ppo.test_alarms import rows
from tests.align.ppo.test_probe import CHECK, words
from tests.align.ppo.test_state import Memory
from tests.tiny_ppo import collect, generator
from tests.tiny_roles import PROMPTS, Log

GAP = "ppo/sampler/gap_mean"


def config(**settings):
    defaults = {"iterations": 40, "rollout_batch_size": 100, "max_new_tokens": 40}
    return tiny_roles.config(**(defaults | settings))


def walk(monitor, gaps, *, first=1):
    """Let a monitor see iterations with these gaps between sampler and trainer."""
    log = Log()
    log.rows = [{}] * (first - 1)
    for iteration, gap in enumerate(gaps, start=first):
        monitor.record(log, iteration, rows()[0] | {GAP: gap})
    return log.rows[first - 1 :]


def test_an_alarm_is_told_once_when_it_begins_and_once_when_it_is_over():
    told = []
    logged = walk(Monitor(config(), warn=told.append), [0, 1, 1, 0, 1, *[0] * (CALM + 2), 1])
    levels = [row.get("ppo/alarm/sampler_gap") for row in logged]
    assert levels == [None, *[1.0] * (3 + CALM), 0.0, None, None, 1.0]
    assert len(told) == 3
    assert told[0].startswith("alarm    sampler_gap, iteration 2: sampler and trainer disagree")
    assert "(sampler/gap_mean 1, at first 0); sample with the same weights" in told[0]
    assert told[1] == "alarm    sampler_gap: over at iteration 8"
    assert told[2].startswith("alarm    sampler_gap, iteration 11: ")
    assert all("\n" not in line for line in told)


def test_what_the_watch_remembers_survives_json_and_goes_on_alike():
    gaps = [0, 1, 1, 0, 0, 0, 0, 1, 0]
    whole, told = [], []
    expected = walk(Monitor(config(), warn=whole.append), gaps)
    first = Monitor(config(), warn=told.append)
    before = walk(first, gaps[:5])
    second = Monitor(config(), warn=told.append)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert before + walk(second, gaps[5:], first=6) == expected
    assert told == whole


def test_stop_ends_the_run_after_its_metrics_were_written():
    """P32."""
    told, log = [], Log()
    monitor = Monitor(config(on_alarm="stop"), warn=told.append)
    monitor.record(log, 1, rows()[0])
    with pytest.raises(DivergedError, match="on_alarm=stop and the alarm sampler_gap began at it"):
        monitor.record(log, 2, rows()[0] | {GAP: 1.0})
    assert log.rows[1]["ppo/alarm/sampler_gap"] == 1.0
    assert len(told) == 1
    assert DivergedError.exit_code == 4


def test_a_metric_that_is_in_no_table_is_refused():
    with pytest.raises(AssertionError, match="ppo/new"):
        Monitor(config()).record(Log(), 1, rows()[0] | {"ppo/new": 1.0})


def test_alarms_stand_in_metrics_jsonl_and_above_the_progress(tmp_path, capsys):
    with Tracker(tmp_path, "ppo") as tracker:
        monitor = Monitor(config(), warn=tracker.note)
        for iteration, gap in enumerate((0, 1), start=1):
            monitor.record(tracker, iteration, rows()[0] | {GAP: gap})
    first, second = read_metrics(tmp_path / "metrics.jsonl")
    assert "ppo/alarm/sampler_gap" not in first
    assert second["ppo/alarm/sampler_gap"] == 1.0
    assert "alarm    sampler_gap, iteration 2: " in capsys.readouterr().out


def test_early_stop_ends_the_remaining_minibatches_and_epochs():
    """P32: 2 minibatches × 3 epochs. A bound that any step passes ends the rollout at the second:
    the first finds the policy that sampled."""
    steps = {}
    for bound in (None, 1e-12, 1e3):
        log = Log()
        settings = tiny_roles.config(epochs=3, minibatches=2, early_stop_kl=bound)
        roles = tiny_roles.separate()
        ppo.train(roles, PROMPTS, settings, tracker=log, seed=0)
        steps[bound] = [row["ppo/policy/steps"] for row in log.rows]
    assert steps == {None: [6, 6], 1e-12: [2, 2], 1e3: [6, 6]}


def test_early_stop_takes_the_first_step_that_is_too_far():
    """P32: the KL of the steps grows; a bound between second and third ends after the third."""
    found = {}
    for early in (False, True):
        bound = (found[False][1] + found[False][2]) / 2 if early else None
        settings = tiny_roles.config(epochs=5, minibatches=1, early_stop_kl=bound)
        roles = tiny_roles.separate()
        optimisers = ppo.TrainState.start(roles, settings, seed=0).optimisers
        rollout = collect(roles, settings).rollout
        steps = ppo.update(roles, rollout, optimisers, settings, generator=generator(1))
        found[early] = [step["ppo/policy/kl_old_new"] for step in steps]
    whole, stopped = found.values()
    assert len(whole) == 5 and whole[1] < whole[2]
    assert stopped == whole[:3]


def test_a_gradient_that_is_not_a_number_reaches_no_weight():
    """P32: losses are finite, one gradient is not; the policy keeps every weight."""
    roles, settings = tiny_roles.separate(), tiny_roles.config()
    plain = roles.policy_outputs

    def poisoned(sequences):
        found = plain(sequences)
        if found.logits.requires_grad:
            found.logits.register_hook(lambda gradient: gradient * float("nan"))
        return found

    roles.policy_outputs = poisoned
    before = [parameter.detach().clone() for parameter in roles.policy_parameters]
    with pytest.raises(DivergedError, match="policy grad_norm=nan, so the step was not taken"):
        ppo.train(roles, PROMPTS, settings, tracker=Log(), seed=0)
    for parameter, weight in zip(roles.policy_parameters, before, strict=True):
        assert torch.equal(parameter, weight)


def test_a_resumed_run_goes_on_with_its_alarms_and_its_best_probe():
    """P10, P32: broken off after the first of four steps, through JSON as on the disk."""

    def rest(checkpoints, first):
        roles, told, log = tiny_roles.separate(), [], Log()
        log.rows = [{}] * first
        settings = tiny_roles.config(iterations=4, learning_rate=0.1, probe_every=1)
        probe = GoldProbe(
            roles, [EncodedPrompt([5, 7], checks=[CHECK])] * 2, settings, decode=words
        )
        monitor = Monitor(settings, probe, warn=told.append)
        ppo.train(
            roles, PROMPTS, settings, tracker=log, seed=0, checkpoints=checkpoints, monitor=monitor
        )
        return log.rows[1:], told

    memory = Memory()
    whole, told = rest(memory, 0)
    assert told and any("ppo/alarm/kl_far" in row for row in whole)
    values = json.loads(json.dumps(memory.saved.values))
    assert rest(Memory(memory.saved._replace(values=values)), 1) == (whole, told)
