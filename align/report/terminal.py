"""The table that a run ends with, as plain text of at most 100 columns."""

from __future__ import annotations

from typing import Any

from align.messages.columns import pad, width
from align.report.text import interval, mean, name, nats

HEADER = ("", "gold [95 %]", "seen", "unseen", "greedy", "reward", "KL", "tokens", "stops", "wins")
GAP = "  "


def table(summary: dict[str, Any]) -> str:
    """One line per policy, then the reward model and what the columns are."""
    rows = [HEADER, *(_row(key, entry) for key, entry in summary["policies"].items())]
    columns = [max(width(row[i]) for row in rows) for i in range(len(HEADER))]
    lines = [
        GAP.join(pad(cell, columns[i], right=i > 0) for i, cell in enumerate(row)).rstrip()
        for row in rows
    ]
    rule = "─" * max(width(line) for line in lines)
    return "\n".join([lines[0], rule, *lines[1:], rule, *_notes(summary)])


def _row(key: str, entry: dict[str, Any]) -> tuple[str, ...]:
    gold, greedy = entry["gold"] or {}, entry["greedy"]["gold"] or {}
    return (
        name(key),
        interval(gold.get("all")),
        mean(gold.get("seen")),
        mean(gold.get("unseen")),
        mean(greedy.get("all")),
        mean(entry["reward"]["all"]),
        nats(entry),
        mean(entry["length"], 0),
        mean(entry["stop_rate"]),
        interval(entry["win_rate"]),
    )


def _notes(summary: dict[str, Any]) -> list[str]:
    setup = summary["setup"]
    card = summary["reward_model"]
    prompts = setup["prompts"]
    lines = [
        f"{prompts['all']} held-out prompts × {setup['samples_per_prompt']} answers at temperature "
        f"{setup['temperature']:g}; KL to SFT in nats per answer; wins against SFT"
    ]
    if prompts["judged"] < prompts["all"]:
        lines.append(f"gold: {prompts['judged']} of {prompts['all']} prompts carry checks")
    if any(e["win_rate"] and e["win_rate"]["judge"] == "reward" for e in _entries(summary)):
        lines.append("wins are the reward model's opinion: the prompts carry no checks")
    if "best_of_n" in summary["policies"]:
        lines.append(
            f"best of n: {setup['best_of_n']} of SFT's answers, the reward model picks one"
        )
    if card is not None:
        line = (
            f"reward model: accuracy {interval(card['accuracy'])} on {card['pairs']} held-out pairs"
        )
        if card["ceiling"] is not None:
            line += f", {card['ratio']['mean']:.0%} of the ceiling {card['ceiling']:.3f}"
        lines.append(line)
    return lines


def _entries(summary: dict[str, Any]) -> list[dict[str, Any]]:
    return list(summary["policies"].values())
