"""The probe: held-back prompts, greedy answers, gold against reward, and nothing else disturbed."""

from __future__ import annotations

import json

import pytest

from align.data import EncodedPrompt, Prompt
from align.messages.errors import DataError
from align.ppo import train as ppo
from align.ppo.monitor import Monitor
from align.ppo.probe import GoldProbe, hold_back
from tests import tiny_roles
from tests.align.ppo.test_monitor_runs import (
    KILLING,
    SMALL,
    SMALL_PROMPTS,
    count_of_30,
    rewarded,
    run,
)
from tests.tiny_roles import PROMPTS, Log

CHECK = {"kind": "excludes", "values": ["30"], "core": True}
ASKED = [
    EncodedPrompt([first, second], checks=[CHECK])
    for first in (5, 6, 7)
    for second in range(12, 18)
]


def words(ids):
    """A decoder in which every token is its number."""
    return " ".join(map(str, ids))


def prompts(count, *, checked=True, repeat=1):
    return [
        Prompt(
            [{"role": "user", "content": f"question {index // repeat}"}],
            where=f"prompts.jsonl:{index + 1}",
            checks=[CHECK] if checked else [],
        )
        for index in range(count)
    ]


def test_a_reward_against_the_checks_raises_the_alarm():
    """P32: the reward counts token 30, the checks forbid it: gold falls while the reward rises."""

    def monitor(config):
        roles_probe = GoldProbe(roles, ASKED, config, decode=words)
        return Monitor(config, roles_probe, warn=lambda line: None)

    roles = rewarded(count_of_30, SMALL, stop_ids=[1, 2, 3, 4])
    begun = run(
        roles, prompts=SMALL_PROMPTS, monitor=monitor, iterations=9, probe_every=2, **KILLING
    )
    assert begun["gold_falls"] in (3, 5, 7, 9)


def test_a_probe_is_compared_with_the_best_one_prompt_by_prompt(monkeypatch):
    answers = iter([([1, 1, 0, 0], [0, 0, 0, 0]), ([1, 1, 1, 0], [1, 1, 1, 1])])
    more = iter([([0, 1, 0, 0], [2, 2, 2, 4]), ([1, 1, 0, 0], [1, 1, 1, 1])])
    config = tiny_roles.config(iterations=13, probe_every=4)
    probe = GoldProbe(None, ASKED, config, decode=words)
    monkeypatch.setattr(probe, "_answers", lambda: next(answers))
    first = probe(1)
    assert first["ppo/probe/gold"] == 0.5
    assert first["ppo/probe/gold_change"] == first["ppo/probe/gold_change_error"] == 0
    assert probe(2) == probe(4) == {}
    second = probe(5)
    assert second["ppo/probe/gold_change"] == 0.25  # (0 + 0 + 1 + 0) / 4
    assert second["ppo/probe/gold_change_error"] == pytest.approx(0.25)  # .5 / √4
    restored = GoldProbe(None, ASKED, probe.config, decode=words)
    restored.load_state_dict(json.loads(json.dumps(probe.state_dict())))
    monkeypatch.setattr(restored, "_answers", lambda: next(more))
    third = restored(9)
    assert third["ppo/probe/gold_change"] == -0.5  # (−1 + 0 − 1 + 0) / 4
    assert third["ppo/probe/reward"] == 2.5
    assert third["ppo/probe/reward_change"] == 1.5
    assert restored(13)["ppo/probe/gold_change"] == -0.25  # to the second, not to the third


def test_the_last_iteration_is_probed_whatever_its_number(monkeypatch):
    probe = GoldProbe(None, ASKED, tiny_roles.config(iterations=7, probe_every=5), decode=words)
    monkeypatch.setattr(probe, "_answers", lambda: ([1.0], [0.0]))
    assert [i for i in range(1, 8) if probe(i)] == [1, 6, 7]


def test_the_probe_changes_no_number_of_training():
    found = []
    for probing in (False, True):
        roles = tiny_roles.separate()
        config = tiny_roles.config(iterations=3, probe_every=1)
        probe = GoldProbe(roles, ASKED, config, decode=words) if probing else None
        log = Log()
        ppo.train(roles, PROMPTS, config, tracker=log, seed=0, monitor=Monitor(config, probe))
        found.append([{k: v for k, v in row.items() if "/probe/" not in k} for row in log.rows])
        assert any("ppo/probe/gold" in row for row in log.rows) is probing
    assert found[0] == found[1]


def test_prompts_are_held_back_by_their_hash_and_never_shared():
    rows = prompts(100)
    train, held = hold_back(rows, 8)
    assert len(held) == 8 and len(train) == 92
    assert sorted(map(id, train + held)) == sorted(map(id, rows))
    assert hold_back(rows[::-1], 8)[1] == held[::-1]
    assert [row for row in hold_back(rows, 5)[1] if row not in held] == []


def test_a_prompt_that_occurs_twice_is_on_one_side():
    train, held = hold_back(prompts(60, repeat=2), 6)
    assert len(held) == 6
    assert not {row.messages[0]["content"] for row in train} & {
        row.messages[0]["content"] for row in held
    }


def test_at_most_a_tenth_is_held_back_and_only_what_carries_checks():
    assert len(hold_back(prompts(35), 64)[1]) == 3
    assert hold_back(prompts(9), 64)[1] == []
    assert hold_back(prompts(100), 0)[1] == []
    assert hold_back(prompts(100, checked=False), 64)[1] == []


def test_checks_that_no_judge_knows_are_told_before_training():
    rows = prompts(20)
    for row in rows:
        row.checks[0] = {"kind": "regexp", "core": True}
    with pytest.raises(DataError, match=r"prompts.jsonl:\d+: checks: kind='regexp' is no check"):
        hold_back(rows, 2)
