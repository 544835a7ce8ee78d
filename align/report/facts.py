"""The tables of the report as rows of text; the HTML and the markdown print the same ones."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from align.evaluation.summary import MEASURES
from align.messages import Sentence, say
from align.report.text import MISSING, interval, nats, number

Cell = tuple[str, str]
"""The mean and its interval."""


@dataclass(frozen=True)
class Line:
    """One row of a table: a label, a note on n or unit, and a cell for each policy."""

    label: str
    note: str
    cells: list[Cell]


@dataclass(frozen=True)
class Table:
    title: str
    lines: list[Line]


def crowded(lines: Sequence[Line]) -> bool:
    """Whether an interval is longer than `[−0.12, +0.34]`, as rewards below −10 have them."""
    return any(len(ends) > 14 for line in lines for _, ends in line.cells)


def cell(estimate: Mapping[str, Any] | None, digits: int = 2, *, sign: bool = False) -> Cell:
    if estimate is None:
        return MISSING, ""
    mean, _, ends = interval(dict(estimate), digits, sign=sign).partition(" ")
    return mean, ends


def numbers(summary: Mapping[str, Any]) -> list[Table]:
    """Policy by policy, everything that was measured."""
    policies = summary["policies"]
    tables = []
    if policies["sft"]["gold"] is not None:
        tables.append(
            Table(say("Gold, the rule judge’s score from 0 to 1"), _parts(policies, "gold"))
        )
        if gains := _parts(policies, "gold_gain", sign=True):
            tables.append(Table(say("Gold, difference to SFT on the same prompts"), gains))
    if len(policies) > 1:
        tables.append(Table(say("Against SFT, on the same prompts"), _against(policies)))
    tables.append(Table(say("The answers"), _responses(policies)))
    greedy = {key: entry["greedy"] for key, entry in policies.items()}
    tables.append(Table(say("Greedy: the likeliest token each time"), _greedy(greedy)))
    return tables


def by_family(summary: Mapping[str, Any], key: str) -> list[Line]:
    """`gold`, `gold_gain` or `reward` by family."""
    policies = summary["policies"]
    if all(entry[key] is None for entry in policies.values()):
        return []
    start = policies["sft"]["gold" if key == "gold_gain" else key]
    sign = key.endswith("_gain")
    return [
        Line(
            family,
            f"n = {found['n']}",
            [
                cell(entry[key]["family"][family] if entry[key] else None, sign=sign)
                for entry in policies.values()
            ],
        )
        for family, found in start["family"].items()
    ]


PARTS = (
    ("all", Sentence("all prompts")),
    ("seen", Sentence("seen templates")),
    ("unseen", Sentence("unseen templates")),
)
LANGUAGES = {"en": Sentence("English"), "ko": Sentence("Korean")}


def language_name(code: object) -> str:
    known = LANGUAGES.get(str(code))
    return str(code) if known is None else known.said()


def slices(part: Mapping[str, Any]) -> dict[str, Any]:
    """A quantity on all prompts, seen, unseen and in each language, as far as known, by label."""
    found = {label.said(): part[key] for key, label in PARTS if part[key] is not None}
    return found | {language_name(code): each for code, each in part["language"].items()}


def _parts(policies: Mapping[str, Any], key: str, *, sign: bool = False) -> list[Line]:
    """A line for each slice; none where no policy has the quantity, as gains of SFT alone."""
    parts = [slices(entry[key]) if entry[key] else {} for entry in policies.values()]
    return [
        Line(label, f"n = {known['n']}", [cell(part.get(label), sign=sign) for part in parts])
        for label, known in next(filter(None, parts), {}).items()
    ]


def _against(policies: Mapping[str, Any]) -> list[Line]:
    entries = list(policies.values())
    judge = next((e["win_rate"]["judge"] for e in entries if e["win_rate"]), "gold")
    return [
        Line(
            say("win rate"),
            say("wins + ½ ties, by gold")
            if judge == "gold"
            else say("wins + ½ ties, by the reward model"),
            [cell(e["win_rate"]) for e in entries],
        ),
        Line(
            say("ties"),
            say("share of the comparisons"),
            [(number(e["win_rate"]["ties"]) if e["win_rate"] else MISSING, "") for e in entries],
        ),
        *(
            Line(
                say("{measure}, difference", measure=each.label.said()),
                each.unit.said(),
                [cell(e[f"{each.key}_gain"], each.digits, sign=True) for e in entries],
            )
            for each in MEASURES
        ),
        Line(say("length, ratio"), say("times SFT’s"), [cell(e["length_ratio"]) for e in entries]),
        Line(say("KL to SFT"), say("nats per answer"), [_nats(e) for e in entries]),
        Line(say("KL to SFT"), say("nats per token"), [cell(e["kl_token"]) for e in entries]),
    ]


def _nats(entry: Mapping[str, Any]) -> Cell:
    known = entry["kl_sequence"]
    return (nats(entry), "") if known is None else cell(known, 1)


def _responses(policies: Mapping[str, Any]) -> list[Line]:
    entries = list(policies.values())
    return [
        Line(
            say("reward"),
            say("reward model’s raw score"),
            [cell(e["reward"]["all"]) for e in entries],
        ),
        *(
            Line(
                each.label.said(),
                each.unit.said(),
                [cell(e[each.key], each.digits) for e in entries],
            )
            for each in MEASURES
        ),
        Line(
            say("distinct-2"),
            say("different token pairs"),
            [(number(e["distinct_2"]), "") for e in entries],
        ),
    ]


def _greedy(policies: Mapping[str, Any]) -> list[Line]:
    lines = _responses(policies)
    if next(iter(policies.values()))["gold"] is not None:
        lines = [*_parts(policies, "gold")[:3], *lines]
    return lines


@dataclass(frozen=True)
class Shown:
    """One prompt with what each policy answered."""

    row: Mapping[str, Any]
    prompt: str
    responses: list[tuple[str, Mapping[str, Any]]]

    @property
    def tags(self) -> list[str]:
        row = self.row
        tags = [str(row["family"])] if row["family"] is not None else []
        if row["language"] is not None:
            tags.append(language_name(row["language"]))
        if row["seen"] is not None:
            tags.append(say("seen template") if row["seen"] else say("unseen template"))
        return tags


def showcase(rows: Sequence[Mapping[str, Any]], *, count: int, seed: int) -> list[Shown]:
    """Choose prompts by the seed: one per family in turn, the languages by turns.

    Shown is the first sample of each policy, whatever it is worth.
    """
    rng = random.Random(seed)
    families: dict[str, list[Mapping[str, Any]]] = {}
    for row in rng.sample(list(rows), len(rows)):
        families.setdefault(str(row["family"]), []).append(row)
    languages = sorted({str(row["language"]) for row in rows}) or [""]
    order = rng.sample(sorted(families), len(families))
    chosen: list[Mapping[str, Any]] = []
    while len(chosen) < min(count, len(rows)):
        for family in order:
            if families[family] and len(chosen) < count:
                wanted = languages[len(chosen) % len(languages)]
                chosen.append(_take(families[family], wanted))
    return [_shown(row) for row in chosen]


def _take(rows: list[Mapping[str, Any]], language: str) -> Mapping[str, Any]:
    index = next((i for i, row in enumerate(rows) if str(row["language"]) == language), 0)
    return rows.pop(index)


def _shown(row: Mapping[str, Any]) -> Shown:
    turns = row["prompt"]
    prompt = "\n".join(
        turn["content"] if len(turns) == 1 else f"{turn['role']}: {turn['content']}"
        for turn in turns
    )
    responses = [(key, given["sampled"][0]) for key, given in row["responses"].items()]
    return Shown(row, prompt, responses)


def scores(response: Mapping[str, Any]) -> str:
    """`gold 0.87 · reward 1.20 · 14 tokens, cut`."""
    parts = []
    if response["gold"] is not None:
        parts.append(say("gold {score}", score=number(response["gold"])))
    parts.append(say("reward {score}", score=number(response["reward"])))
    if response["stopped"]:
        parts.append(say("{count} tokens", count=response["tokens"]))
    else:
        parts.append(say("{count} tokens, cut", count=response["tokens"]))
    return "\u00a0· ".join(part.replace(" ", "\u00a0") for part in parts)
