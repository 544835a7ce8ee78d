"""The tables of the report as rows of text; the HTML and the markdown print the same ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any

from align.evaluation.summary import MEASURES
from align.report.text import MISSING, interval, name, nats, number

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
        tables.append(Table("Gold, the rule judge’s score from 0 to 1", _parts(policies, "gold")))
        gains = _parts(policies, "gold_gain", sign=True)
        tables.append(Table("Gold, difference to SFT on the same prompts", gains))
    tables.append(Table("Against SFT, on the same prompts", _against(policies)))
    tables.append(Table("The answers", _responses(policies)))
    greedy = {key: entry["greedy"] for key, entry in policies.items()}
    tables.append(Table("Greedy: the likeliest token each time", _greedy(greedy)))
    return tables


def by_family(summary: Mapping[str, Any], key: str) -> list[Line]:
    """`gold`, `gold_gain` or `reward` by family."""
    policies = summary["policies"]
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
        for family, found in (start or {"family": {}})["family"].items()
    ]


PARTS = (("all", "all prompts"), ("seen", "seen templates"), ("unseen", "unseen templates"))
LANGUAGES = {"en": "English", "ko": "Korean"}


def _parts(policies: Mapping[str, Any], key: str, *, sign: bool = False) -> list[Line]:
    """All, seen, unseen and the languages."""
    known = next(entry[key] for entry in policies.values() if entry[key] is not None)

    def line(label: str, part: Callable[[Mapping[str, Any]], Any]) -> Line:
        cells = [cell(part(e[key]) if e[key] else None, sign=sign) for e in policies.values()]
        return Line(label, f"n = {part(known)['n']}", cells)

    flat = [line(label, itemgetter(part)) for part, label in PARTS if known[part] is not None]
    return flat + [
        line(LANGUAGES.get(code, code), partial(_language, code)) for code in known["language"]
    ]


def _language(code: str, slices: Mapping[str, Any]) -> Any:
    return slices["language"][code]


def _against(policies: Mapping[str, Any]) -> list[Line]:
    entries = list(policies.values())
    judge = next((e["win_rate"]["judge"] for e in entries if e["win_rate"]), "gold")
    return [
        Line(
            "win rate",
            f"wins + ½ ties, by {'gold' if judge == 'gold' else 'the reward model'}",
            [cell(e["win_rate"]) for e in entries],
        ),
        Line(
            "ties",
            "share of the comparisons",
            [(number(e["win_rate"]["ties"]) if e["win_rate"] else MISSING, "") for e in entries],
        ),
        *(
            Line(
                f"{each.label}, difference",
                each.unit,
                [cell(e[f"{each.key}_gain"], each.digits, sign=True) for e in entries],
            )
            for each in MEASURES
        ),
        Line("length, ratio", "times SFT’s", [cell(e["length_ratio"]) for e in entries]),
        Line("KL to SFT", "nats per answer", [_nats(e) for e in entries]),
        Line("KL to SFT", "nats per token", [cell(e["kl_token"]) for e in entries]),
    ]


def _nats(entry: Mapping[str, Any]) -> Cell:
    known = entry["kl_sequence"]
    return (nats(entry), "") if known is None else cell(known, 1)


def _responses(policies: Mapping[str, Any]) -> list[Line]:
    entries = list(policies.values())
    return [
        Line("reward", "reward model’s raw score", [cell(e["reward"]["all"]) for e in entries]),
        *(
            Line(each.label, each.unit, [cell(e[each.key], each.digits) for e in entries])
            for each in MEASURES
        ),
        Line(
            "distinct-2", "different token pairs", [(number(e["distinct_2"]), "") for e in entries]
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
        seen = {True: "seen template", False: "unseen template"}.get(row["seen"])  # type: ignore[call-overload]
        tags = [row["family"], LANGUAGES.get(str(row["language"]), row["language"]), seen]
        return [str(tag) for tag in tags if tag is not None]


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
    parts = [] if response["gold"] is None else [f"gold {number(response['gold'])}"]
    parts.append(f"reward {number(response['reward'])}")
    parts.append(f"{response['tokens']} tokens{'' if response['stopped'] else ', cut'}")
    return "\u00a0· ".join(part.replace(" ", "\u00a0") for part in parts)


def provenance(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How it was made, as pairs of a name and a value."""
    made = summary["provenance"]
    setup = summary["setup"]
    base = made["base_model"]
    if made["base_revision"]:
        base += f" @ {made['base_revision']}"
    prompts = setup["prompts"]
    pairs = [
        ("run", made["run"]),
        ("recipe", made["recipe"]),
        ("seed", str(made["seed"])),
        ("date", f"{made['date']} (UTC)"),
        ("device", made["device"]),
        ("base model", base),
        ("policies", ", ".join(name(key) for key in summary["policies"])),
        (
            "prompts",
            f"{prompts['all']} held out, {prompts['judged']} with checks, "
            f"{setup['left_out']['prompts']} left out as too long",
        ),
        (
            "held-out pairs",
            f"{setup['left_out']['pairs']['trained_on']} left out as trained on, "
            f"{setup['left_out']['pairs']['too_long']} as too long",
        ),
        (
            "sampling",
            f"{setup['samples_per_prompt']} answers a prompt at temperature "
            f"{setup['temperature']:g}, at most {setup['max_new_tokens']} tokens",
        ),
        ("bootstrap", f"{setup['bootstrap']} resamples of the prompts, 95 % intervals"),
    ]
    pairs += [(f"{library} version", version) for library, version in made["versions"].items()]
    for what in ("tokenizer", "template"):
        if made[f"{what}_hash"]:
            pairs.append((f"{what} hash", made[f"{what}_hash"][:16]))
    return pairs
