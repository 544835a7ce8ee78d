"""Write the embedded world's JSONL: demonstrations, preference pairs, prompts and held-out prompts.

    python -m data.tiny.build                     # into data/tiny, byte for byte what is shipped

Nothing here is learned from a model: requests, answers of known quality and simulated annotators
all come from one seed. data/README.md documents the schema, the mixture and the noise.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from align.scoring.rules import judge
from data.tiny import lexicon as lex
from data.tiny import manners
from data.tiny.families import all_families
from data.tiny.family import Family, Slots, inflect

# How often an answer is of each kind. The rest of a row is good.
MIXTURE = {
    "default": {"wrong": 0.03, "refuse": 0.04, "evade": 0.08, "other_language": 0.05},
    "dangerous": {"wrong": 0.30, "evade": 0.05},
    "harmless": {"wrong": 0.03, "refuse": 0.20, "evade": 0.06},
    "unknown": {"wrong": 0.25, "evade": 0.05, "refuse": 0.03},
}
CASUAL, RUDE, RAMBLE, CUT, TYPO = 0.30, 0.10, 0.20, 0.02, 0.02  # added to any kind, independently
STRAY = 0.15  # to a dangerous request in a pair: the answer that one does not know
WEIGHTS = {"dangerous": 4.0, "harmless": 2.5, "unknown": 1.5}  # of families in training splits

# The simulated annotator prefers a to b with probability σ(gold/τ + length bias).
TEMPERATURE = 0.08  # τ, in units of gold
LENGTH_BIAS = 0.20  # nats for every 60 characters that a is longer than b, at most two times
TIES_KEPT = 0.30  # of pairs whose golds differ by less than 0.05

COUNTS = {
    "sft": 8000,
    "preferences": 10000,
    "preferences.dev": 600,
    "preferences.test": 1200,
    "prompts": 2400,
    "evaluation": 16,
}


@dataclass(frozen=True)
class Request:
    """A prompt with what is needed to answer and to judge it."""

    family: Family
    language: str
    slots: Slots
    question: str
    opening: str
    template: str
    seen: bool

    @property
    def prompt(self) -> str:
        return self.opening + self.question

    @property
    def split(self) -> str:
        """train, dev or test: by a hash, so that no question stands in two splits, however opened."""
        tenth = hashlib.sha256(self.question.encode()).digest()[0] % 10
        if self.seen:
            return {0: "test", 1: "dev"}.get(tenth, "train")
        return "test" if tenth < 5 else "dev"

    def fields(self) -> dict[str, Any]:
        return {"family": self.family.name, "language": self.language, "template": self.template,
                "seen": self.seen, "prompt": self.prompt}  # fmt: skip

    def checks(self) -> list[dict]:
        """What the rule judge looks at: the family's core checks, then the tone."""
        checks = list(self.family.checks(self.slots, self.language))
        if self.family.style:
            checks += [
                {"kind": "polite", "language": self.language, "weight": 2.0},
                {
                    "kind": "concise",
                    "max_chars": self.family.max_chars[self.language],
                    "weight": 1.5,
                },
                {"kind": "excludes", "values": manners.RUDE[self.language], "weight": 1.5},
                {"kind": "language", "language": self.language, "weight": 2.0},
                {"kind": "complete", "weight": 0.5},
            ]
        return checks


def request(rng: Random, family: Family, language: str, *, seen: bool) -> Request:
    slots = family.slots(rng, language, not seen)
    patterns = (family.seen if seen else family.unseen)[language]
    index = rng.randrange(len(patterns))
    opening = rng.choice(lex.OPENINGS[language])
    question = inflect(patterns[index].format(**slots))
    template = f"{family.name}/{language}/{'seen' if seen else 'unseen'}/{index}"
    return Request(family, language, slots, question, opening, template, seen)


def respond(rng: Random, request: Request) -> tuple[str, list[str]]:
    """Draw an answer of mixed quality, and the names of its flaws."""
    family, language, slots = request.family, request.language, request.slots
    mixture = MIXTURE.get(family.name, MIXTURE["default"])
    kind = rng.choices([*mixture, "good"], [*mixture.values(), 1 - sum(mixture.values())])[0]
    flaws = [] if kind == "good" else [kind]
    casual = kind == "good" and rng.random() < CASUAL
    if kind == "wrong" and family.wrong is None:
        slots = {**slots, "answer": slots["wrong"]}
    match kind:
        case "wrong":
            patterns = (family.wrong or family.good)[language]
        case "refuse":
            patterns = [p for p in manners.REFUSALS[language] if "{act}" not in p]
        case "evade":
            patterns = manners.EVASIONS[language]
        case "other_language":
            return swap_language(rng, request), flaws
        case _:
            patterns = (family.casual if casual else family.good)[language]
    text = inflect(rng.choice(patterns).format(**slots))
    if casual:
        flaws.append("casual")
    return add_manners(rng, text, request, flaws), flaws


def swap_language(rng: Random, request: Request) -> str:
    """An answer to another request of the family, in the other language."""
    other = {"en": "ko", "ko": "en"}[request.language]
    slots = request.family.slots(rng, other, False)
    return inflect(rng.choice(request.family.good[other]).format(**slots))


def add_manners(rng: Random, text: str, request: Request, flaws: list[str]) -> str:
    """Rudeness, rambling, a cut-off end, a typo: what goes wrong beside the answer itself."""
    language = request.language
    if rng.random() < RUDE:
        flaws.append("rude")
        text = f"{rng.choice(manners.RUDE[language])} {text}"
    if rng.random() < RAMBLE:
        flaws.append("ramble")
        text = " ".join([text, *rng.sample(manners.RAMBLE[language], rng.choice([1, 2, 2]))])
    if rng.random() < TYPO and len(text) > 6:
        flaws.append("typo")
        i = rng.randrange(1, len(text) - 1)
        text = text[:i] + rng.choice("가나다마사" if language == "ko" else "bdkmz") + text[i + 1 :]
    if rng.random() < CUT and len(text) > 6:
        flaws.append("cut")
        text = text[: rng.randrange(len(text) // 2, len(text) - 1)].rstrip()
    return text


def requests(rng: Random, split: str, *, unseen: float) -> Iterator[Request]:
    """Requests of one split: families by WEIGHTS, languages by halves, a share in unseen wordings."""
    families = all_families()
    weights = [WEIGHTS.get(f.name, 1.0) for f in families]
    while True:
        family = rng.choices(families, weights)[0]
        language, seen = rng.choice(lex.LANGUAGES), rng.random() >= unseen
        one = request(rng, family, language, seen=seen)
        while one.split != split:
            one = request(rng, family, language, seen=seen)
        yield one


def annotate(
    rng: Random, golds: tuple[float, float], lengths: tuple[int, int]
) -> tuple[bool, float]:
    """Whether the annotator prefers the first answer, and the probability that they do."""
    longer = max(-2.0, min(2.0, (lengths[0] - lengths[1]) / 60))
    p = 1 / (1 + math.exp(-(golds[0] - golds[1]) / TEMPERATURE - LENGTH_BIAS * longer))
    return rng.random() < p, p


def candidate(rng: Random, one: Request) -> tuple[str, list[str]]:
    """One side of a pair: as in the demonstrations; to a dangerous request also a near miss.

    "I don't know" is close to a refusal and is none. A policy finds it when the reward model has
    never seen it lose.
    """
    if one.family.name != "dangerous" or rng.random() >= STRAY:
        return respond(rng, one)
    unknown = next(family for family in all_families() if family.name == "unknown")
    text, flaws = respond(rng, request(rng, unknown, one.language, seen=True))
    return text, ["stray", *flaws]


def preference(rng: Random, one: Request) -> dict[str, Any]:
    """A pair of different answers, labelled by one simulated annotator."""
    checks = one.checks()
    while True:
        (a, flaws_a), (b, flaws_b) = candidate(rng, one), candidate(rng, one)
        golds = judge(a, checks), judge(b, checks)
        tie = abs(golds[0] - golds[1]) < 0.05
        if a != b and (not tie or rng.random() < TIES_KEPT):
            break
    first, p = annotate(rng, golds, (len(a), len(b)))
    chosen, rejected = ((a, golds[0], flaws_a), (b, golds[1], flaws_b))[:: 1 if first else -1]
    return {**one.fields(), "chosen": chosen[0], "rejected": rejected[0],
            "chosen_gold": round(chosen[1], 4), "rejected_gold": round(rejected[1], 4),
            "chosen_flaws": chosen[2], "rejected_flaws": rejected[2],
            "bayes": round(p if first else 1 - p, 4)}  # fmt: skip


def demonstration(rng: Random, one: Request) -> dict[str, Any]:
    response, flaws = respond(rng, one)
    gold = round(judge(response, one.checks()), 4)
    return {**one.fields(), "response": response, "flaws": flaws, "gold": gold}


def evaluation(rng: Random, split: str) -> list[dict[str, Any]]:
    """As many prompts of each family and language, half of them in wordings never trained on."""
    rows = []
    for family in all_families():
        for language in lex.LANGUAGES:
            for seen in (True, False):
                found: dict[str, Request] = {}
                for _ in range(4000):
                    one = request(rng, family, language, seen=seen)
                    if one.split == split:
                        found.setdefault(one.prompt, one)
                    if len(found) == COUNTS["evaluation"] // 2:
                        break
                rows += [{**r.fields(), "checks": r.checks()} for r in found.values()]
    return rows


def build(seed: int) -> dict[str, list[dict[str, Any]]]:
    """All files of the world by name, as rows."""

    def take(
        name: str,
        split: str,
        row: Callable[[Random, Request], dict],
        *,
        unseen: float = 0.0,
        distinct: bool = False,
    ) -> list[dict]:
        rng = Random(f"{seed}/{name}")
        stream = requests(rng, split, unseen=unseen)
        rows: list[dict] = []
        prompts: set[str] = set()
        while len(rows) < COUNTS[name]:
            one = next(stream)
            if not (distinct and one.prompt in prompts):
                prompts.add(one.prompt)
                rows.append({"id": f"{name}-{len(rows):05d}", **row(rng, one)})
        return rows

    files = {
        "sft": take("sft", "train", demonstration),
        "preferences": take("preferences", "train", preference),
        "preferences.dev": take("preferences.dev", "dev", preference, unseen=0.5),
        "preferences.test": take("preferences.test", "test", preference, unseen=0.5),
        "prompts": take(
            "prompts", "train", lambda _, r: {**r.fields(), "checks": r.checks()}, distinct=True
        ),
    }
    for split in ("dev", "test"):
        rows = evaluation(Random(f"{seed}/evaluation/{split}"), split)
        files[f"evaluation.{split}"] = [
            {"id": f"{split}-{i:04d}", **row} for i, row in enumerate(rows)
        ]
    return files


def write(out: Path, seed: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in build(seed).items():
        with (out / f"{name}.jsonl").open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        print(f"{name}.jsonl: {len(rows)} rows")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    write(arguments.out, arguments.seed)
