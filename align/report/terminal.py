"""The table that a run ends with, as plain text of at most 100 columns."""

from __future__ import annotations

from typing import Any

from align.messages import Sentence, say
from align.messages.columns import aligned, width
from align.report.text import interval, mean, name, nats

HEADER = (
    Sentence("gold [95 %]"),
    Sentence("seen"),
    Sentence("unseen"),
    Sentence("greedy"),
    Sentence("reward"),
    Sentence("KL"),
    Sentence("tokens"),
    Sentence("stops"),
    Sentence("wins"),
)


def table(summary: dict[str, Any]) -> str:
    """One line per policy, then the reward model and what the columns are."""
    header = ("", *(column.said() for column in HEADER))
    rows = [header, *(_row(key, entry) for key, entry in summary["policies"].items())]
    lines = aligned(rows, right=True)
    rule = "─" * max(map(width, lines))
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
        say(
            "{prompts} held-out prompts × {samples} answers at temperature {temperature:g}; KL to "
            "SFT in nats per answer; wins against SFT",
            prompts=prompts["all"],
            samples=setup["samples_per_prompt"],
            temperature=setup["temperature"],
        )
    ]
    if prompts["judged"] < prompts["all"]:
        lines.append(
            say(
                "gold: {judged} of {prompts} prompts carry checks",
                judged=prompts["judged"],
                prompts=prompts["all"],
            )
        )
    if any(e["win_rate"] and e["win_rate"]["judge"] == "reward" for e in _entries(summary)):
        lines.append(say("wins are the reward model's opinion: the prompts carry no checks"))
    if "best_of_n" in summary["policies"]:
        lines.append(
            say("best of n: {n} of SFT's answers, the reward model picks one", n=setup["best_of_n"])
        )
    if card is not None:
        values = {"accuracy": interval(card["accuracy"]), "pairs": card["pairs"]}
        if card["ceiling"] is None:
            lines.append(
                say("reward model: accuracy {accuracy} on {pairs} held-out pairs", **values)
            )
        else:
            lines.append(
                say(
                    "reward model: accuracy {accuracy} on {pairs} held-out pairs, {ratio:.0%} of "
                    "the ceiling {ceiling:.3f}",
                    ratio=card["ratio"]["mean"],
                    ceiling=card["ceiling"],
                    **values,
                )
            )
    return lines


def _entries(summary: dict[str, Any]) -> list[dict[str, Any]]:
    return list(summary["policies"].values())
