"""Alarms in words: from the iteration they began in to the one they were over in."""

from __future__ import annotations

import pytest

from align.ppo.alarms import RULES
from align.ppo.monitor import Monitor
from align.report.alarms import stage_alarms
from align.report.render import render
from tests import summaries, tiny_roles
from tests.align.ppo.test_alarms import rows
from tests.tiny_roles import Log


def logged(lengths, gaps):
    """Rows of metrics.jsonl as a monitor writes them."""
    config = tiny_roles.config(iterations=40, rollout_batch_size=100, max_new_tokens=40)
    monitor, log = Monitor(config, warn=lambda line: None), Log()
    for iteration, (length, gap) in enumerate(zip(lengths, gaps, strict=True), start=1):
        changed = {"ppo/response/length": length, "ppo/sampler/gap_mean": gap}
        monitor.record(log, iteration, rows()[0] | {"ppo/policy/steps": 4} | changed)
    return [{"step": step, "time": 0.0} | row for step, row in enumerate(log.rows, start=1)]


def test_each_alarm_is_told_with_its_iterations_and_figures():
    found = stage_alarms("ppo", logged([20.0, *[40.0] * 9], [0, 0, 1, *[0] * 7]))
    assert found is not None
    assert found.iterations == 10
    drift, gap = sorted(found.spells, key=lambda spell: spell.name)
    assert [spell.name for spell in found.spells] == ["sampler_gap", "length_drift"]
    assert gap.when == "iteration 3 to 6"
    assert drift.when == "iteration 3 to the end"
    assert drift.cause.endswith("than they were (response/length 40, at first 20)")
    assert drift.remedy == next(rule.remedy for rule in RULES if rule.name == "length_drift")


def test_an_alarm_that_comes_back_is_told_twice():
    gaps = [0, 1, 0, 0, 0, 1, 0, 0, 0]
    found = stage_alarms("ppo", logged([20.0] * 9, gaps))
    assert found is not None
    assert [spell.when for spell in found.spells] == ["iteration 2 to 5", "iteration 6 to 9"]


def test_a_stage_that_nothing_watched_is_left_out():
    assert stage_alarms("sft", [{"step": 1, "sft/train/loss": 2.0}]) is None
    unwatched = [{"step": 1, "ppo/response/length": 20.0}]
    assert stage_alarms("ppo", unwatched) is None


@pytest.mark.parametrize("alarmed", [True, False])
def test_page_and_markdown_tell_the_alarms_or_that_there_was_none(alarmed):
    metrics = {"ppo": logged([20.0, *[40.0 if alarmed else 21.0] * 5], [0] * 6)}
    told = render(summaries.summary(), summaries.sample_rows(), metrics, showcase=2)
    for text in told:
        text = text.replace("\\", "")
        assert "Alarms while it trained" in text
        assert ("PPO: no alarm in 6 iterations." in text) is not alarmed
        assert ("Length drift" in text) is alarmed
        assert ("iteration 3 to the end: responses have become much longer" in text) is alarmed
    none = render(summaries.summary(), summaries.sample_rows(), {}, showcase=2)
    assert not any("Alarms while it trained" in text for text in none)
