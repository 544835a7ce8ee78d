"""Places of marks and points."""

from __future__ import annotations

import pytest

from align.report.pictures import UNIT, curve, families, nice_axis, overview, reward_accuracy
from tests import summaries


def test_the_unit_axis_spans_the_width_between_its_margins() -> None:
    assert [UNIT.place(value) for value in (0.0, 0.5, 1.0)] == [1.5, 50.0, 98.5]
    assert UNIT.place(-3.0) == 1.5 and UNIT.place(7.0) == 98.5


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.0, 1.0], (0.0, 0.25, 0.5, 0.75, 1.0)),
        ([-1.77, 1.1], (-2.0, -1.0, 0.0, 1.0, 2.0)),
        ([12.0, 48.0], (10.0, 20.0, 30.0, 40.0, 50.0)),
        ([0.3, 0.3], (0.3, 0.4)),
    ],
)
def test_a_nice_axis_covers_the_values_with_round_ticks(
    values: list[float], ticks: tuple[float, ...]
) -> None:
    axis = nice_axis(values)
    assert axis.ticks == pytest.approx(ticks)
    assert axis.low - 1e-12 <= min(values) and max(values) <= axis.high + 1e-12


def test_the_overview_marks_all_and_unseen_prompts_of_each_policy() -> None:
    policies = summaries.summary()["policies"]
    picture = overview(policies, "gold")
    assert [row.policy for row in picture.rows] == ["base", "sft", "dpo", "ppo"]
    assert len(picture.marks) == 8
    sft = policies["sft"]["gold"]["all"]
    big = next(mark for mark in picture.marks if mark.policy == "sft" and not mark.minor)
    assert (big.low, big.x, big.high) == tuple(UNIT.place(sft[k]) for k in ("low", "mean", "high"))
    assert picture.band == (big.low, pytest.approx(big.high - big.low))
    assert f"n = {sft['n']}" in big.title


def test_families_stand_in_the_order_of_sfts_gold_and_every_policy_is_in_every_row() -> None:
    policies = summaries.summary()["policies"]
    picture = families(policies, "gold")
    named = [row.label for row in picture.rows][5:]
    start = policies["sft"]["gold"]["family"]
    assert named == sorted(start, key=lambda family: -start[family]["mean"])
    assert len(picture.marks) == 4 * len(picture.rows)
    for i in range(len(picture.rows)):
        inside = [m for m in picture.marks if i <= m.y / picture.row_height < i + 1]
        assert [m.policy for m in inside] == list(policies)


def test_the_reward_picture_has_chance_and_ceiling() -> None:
    card = summaries.summary()["reward_model"]
    picture = reward_accuracy(card)
    assert [word for _, word in picture.rules] == ["chance", "ceiling"]
    assert len(picture.rows) == 1 + len(card["family"])


def test_a_curve_fills_its_box() -> None:
    drawn = curve("loss", "nats", [0, 5, 10], [4.0, -1.0, 1.5])
    assert drawn.points == "0.00,0.00 50.00,100.00 100.00,50.00"
    assert (drawn.low, drawn.high, drawn.last) == ("−1.00", "4.00", "1.50")
    assert drawn.zero == 80.0
    near = curve("kl", "nats", [0, 1], [-1e-7, 1.5])
    assert (near.low, near.high) == ("0.000", "1.50")
    assert curve("flat", "", [1, 2], [2.0, 2.0]).points == "0.00,0.00 100.00,0.00"


def test_a_long_curve_is_drawn_as_means_of_stretches() -> None:
    drawn = curve("loss", "nats", list(range(1000)), [float(i % 2) for i in range(1000)])
    assert len(drawn.points.split()) == 200
    assert (drawn.low, drawn.high) == ("0.400", "0.600")
    assert drawn.steps == (0, 999)
