"""The terminal's table: narrow enough, aligned, complete."""

from __future__ import annotations

from align.messages.columns import width
from align.report.terminal import table
from tests import summaries


def test_the_table_fits_into_100_columns_and_lines_up() -> None:
    lines = table(summaries.summary()).splitlines()
    assert max(width(line) for line in lines) <= 100
    header, _, *rows = lines[:6]
    assert [row.split()[0] for row in rows] == ["base", "SFT", "DPO", "PPO"]
    end = header.index("unseen") + len("unseen")
    for row in rows:
        assert row[end - 4 : end].replace(".", "").isdigit() and row[end] == " "


def test_the_table_holds_the_summarys_numbers() -> None:
    summary = summaries.summary()
    ppo = summary["policies"]["ppo"]
    row = next(line for line in table(summary).splitlines() if line.startswith("PPO"))
    for estimate in (ppo["gold"]["all"], ppo["win_rate"]):
        assert f"{estimate['mean']:.2f} [{estimate['low']:.2f}, {estimate['high']:.2f}]" in row
    assert "of the ceiling" in table(summary)


def test_without_gold_the_table_says_who_judged() -> None:
    text = table(summaries.summary(gold=False))
    assert "the reward model's opinion" in text
    assert "0 of 224 prompts carry checks" in text


def test_all_policies_fit_too_and_a_bound_is_called_one() -> None:
    lines = table(summaries.summary(summaries.EVERY)).splitlines()
    assert max(width(line) for line in lines) <= 100
    row = next(line for line in lines if line.startswith("best of n "))
    assert "≤ 1.2" in row
    assert "best of n: 8 of SFT's answers, the reward model picks one" in lines
