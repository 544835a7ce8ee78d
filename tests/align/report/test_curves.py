"""Which metrics are drawn, in which order, under which name and unit."""

from __future__ import annotations

from typing import Any

from align.messages import Sentence
from align.ppo import metrics as ppo_metrics
from align.ppo.metrics import METRICS, TABLE, Metric
from align.report import curves
from align.report.curves import stage_curves
from tests import summaries


def rows_of(*keys: str) -> list[dict[str, Any]]:
    return [{"step": step, "time": 0.0, **dict.fromkeys(keys, float(step))} for step in (1, 2)]


def drawn(stage: str, *names: str) -> list[tuple[str, str]]:
    """Titles and units of the curves, in order."""
    found = stage_curves(stage, rows_of(*(f"{stage}/{name}" for name in names)))
    return [(curve.title, curve.unit) for curve in found.curves]


def test_curves_leave_out_what_is_no_number_and_count_what_is_not_drawn() -> None:
    rows = [
        {"step": 1, "time": 9.0, "ppo/policy/loss": 1.0, "ppo/kl/sequence": 0.0, "ppo/lr": 1.0},
        {"step": 2, "time": 9.0, "ppo/policy/loss": "nan", "ppo/kl/sequence": 2.0, "ppo/lr": 0.5},
        {"step": 3, "time": 9.0, "ppo/policy/loss": 0.5, "ppo/note": "text", "ppo/once/loss": 1.0},
    ]
    found = stage_curves("ppo", rows)
    assert [c.title for c in found.curves] == ["kl/sequence", "policy/loss"]
    assert found.curves[1].steps == (1, 3)
    assert found.others == 1


def test_ppos_curves_are_those_of_its_table_in_its_order_with_its_units() -> None:
    found = stage_curves("ppo", rows_of(*reversed(METRICS)))
    wanted = [(m.key.removeprefix("ppo/"), m.unit) for m in TABLE if m.curve]
    assert [(c.title, c.unit) for c in found.curves] == wanted
    assert wanted[:2] == [("reward/score", "reward"), ("kl/sequence", "nats per episode")]
    assert found.others == len(TABLE) - len(wanted)


def test_a_new_row_of_ppos_table_is_drawn_and_nothing_else_has_to_know(monkeypatch: Any) -> None:
    new = Metric("ppo/new/thing", Sentence("furlongs"), "tried", curve=True)
    assert ppo_metrics.METRICS is curves.METRICS
    monkeypatch.setitem(ppo_metrics.METRICS, new.key, new)
    assert ppo_metrics.listed({new.key: 1.0}) == {new.key: 1.0}
    assert drawn("ppo", "new/thing") == [("new/thing", "furlongs")]


def test_a_loss_has_the_unit_of_its_stage_and_any_other_stage_has_a_loss_too() -> None:
    assert drawn("sft", "train/loss") == [("train/loss", "nats per token")]
    assert drawn("dpo", "train/loss") == [("train/loss", "nats per pair")]
    assert drawn("new", "train/loss") == [("train/loss", "what the trainer minimises")]
    assert drawn("grpo", "train/kl", "train/loss", "train/epoch") == [
        ("train/loss", "what the trainer minimises"),
        ("train/kl", "nats per token"),
    ]
    assert drawn("ppo", "train/loss") == []  # PPO's own table says what PPO has


def test_the_stage_called_reward_has_no_curve_of_the_score_that_others_log() -> None:
    found = stage_curves("reward", rows_of("reward/train/accuracy", "reward/score", "sft/x"))
    assert [c.title for c in found.curves] == ["train/accuracy"]


def test_what_the_tests_pages_show_is_drawn() -> None:
    for stage, rows in summaries.METRICS.items():
        found = stage_curves(stage, rows)
        assert len(found.curves) == len(rows[0]) - 2 and found.others == 0
