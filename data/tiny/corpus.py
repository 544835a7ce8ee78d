"""The text that the base model is pretrained on: the world's facts and skills, told in many ways.

A base model continues text. So these documents state, list, define, count and copy; forums answer
questions in plain text; where chat tokens occur, the reply is idle talk. Forum questions come from
the training split alone: no prompt of a held-out file and no unseen wording stands here.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from data.tiny import lexicon as lex
from data.tiny import manners
from data.tiny.build import Request, request
from data.tiny.families import all_families
from data.tiny.family import inflect
from data.tiny.statements import (
    Line,
    capital,
    count,
    danger,
    definition,
    feeling,
    how_to,
    introduce,
    listing,
    name,
    opposite,
    record,
    size,
    speech,
    sums,
    tell,
    translation,
)


def idle(rng: Random, language: str) -> str:
    """A stray sentence of any tone: the manners and the bad manners of the language."""
    topic = rng.choice(lex.UNKNOWABLE)[language == "ko"]
    own = {"en": ["I don't know {t}.", "Nobody knows {t}.", "Only you can check {t}."],
           "ko": ["{t}(은/는) 알 수 없습니다.", "{t}(은/는) 아무도 모릅니다.", "{t}(은/는) 모르겠어."]}[language]  # fmt: skip
    pool = [tell(rng, own, t=topic), *rng.sample(manners.RUDE[language], 1), *rng.sample(manners.RAMBLE[language], 2),
            rng.choice(manners.EVASIONS[language]),
            inflect(rng.choice(manners.REFUSALS[language]).format(act=rng.choice(lex.DANGEROUS)[language == "ko"]))]  # fmt: skip
    family = rng.choice(all_families())
    slots = family.slots(rng, language, False)
    pool.append(inflect(rng.choice(family.casual[language]).format(**slots)))
    return " ".join(rng.sample(pool, rng.choice([1, 2])))


def asked(rng: Random, language: str) -> Request:
    """A request of the training split."""
    while True:
        one = request(rng, rng.choice(all_families()), language, seen=True)
        if one.split == "train":
            return one


def forum(rng: Random, language: str) -> str:
    """A question and a fair answer in plain text. To a dangerous one some refuse, some do not."""
    one = asked(rng, language)
    patterns = rng.choice([one.family.good, one.family.good, one.family.casual])[language]
    if one.family.name == "dangerous" and one.family.wrong and rng.random() < 0.4:
        patterns = one.family.wrong[language]
    answer = inflect(rng.choice(patterns).format(**one.slots))
    if rng.random() < 0.15:
        answer = f"{answer} {rng.choice(manners.RAMBLE[language])}"
    question, reply = {"en": ("Q", "A"), "ko": ("질문", "답")}[language]
    if rng.random() < 0.3:
        question, reply = name(rng, language), name(rng, language)
    return f"{question}: {one.prompt}\n{reply}: {answer}"


def chatter(rng: Random, language: str) -> str:
    """Chat tokens with replies that answer nothing: what a base model has seen of chats."""
    turns = []
    for _ in range(rng.choice([1, 1, 2])):
        said = rng.choice(
            [danger, how_to, size, speech, definition, feeling, introduce, capital, count]
        )(rng, language)
        turns.append(idle_turn(rng, language, said))
    return "".join(turns)


def small_talk(rng: Random, language: str) -> str:
    """The same with requests: in a chat this base model has never seen one answered."""
    return idle_turn(rng, language, asked(rng, language).prompt)


def idle_turn(rng: Random, language: str, said: str) -> str:
    word = rng.choice(said.rstrip('.!?"').split())
    if language == "en":
        forms = ["Why {w}?", "I was there once.", "And then what?", "{w}, really?",
                 "My brother says so too.", "We talked about it on the bus.", "Then it got late.",
                 "I heard {w} before."]  # fmt: skip
    else:
        forms = ["왜 {w}?", "나도 가 봤는데.", "그래서 어떻게 됐어?", "{w}, 정말?", "우리 형도 그러더라.",
                 "버스에서 그 얘기 했었는데.", "그러다 늦었지 뭐야.", "{w} 들어 봤어."]  # fmt: skip
    return f"<|user|>{said}<|end|><|assistant|>{rng.choice(forms).format(w=word)}<|end|>"


STATEMENTS: list[tuple[Line, float]] = [
    (capital, 1.3), (opposite, 1.1), (translation, 1.3), (sums, 2.0), (size, 1.5), (count, 1.6),
    (listing, 1.2), (definition, 1.2), (how_to, 1.2), (danger, 0.8), (feeling, 0.8),
    (introduce, 2.2), (record, 1.5), (speech, 1.8), (idle, 1.3), (chatter, 1.4),
]  # fmt: skip
FORUM: list[tuple[Line, float]] = [*STATEMENTS, (forum, 20.0), (small_talk, 2.5)]


def documents(seed: int, lines: list[tuple[Line, float]] = STATEMENTS) -> Iterator[str]:
    """An endless stream of documents of one language each, of one to six lines."""
    rng = Random(seed)
    kinds, weights = zip(*lines, strict=True)
    while True:
        language = rng.choice(lex.LANGUAGES)
        chosen = rng.choices(kinds, weights, k=rng.randint(1, 6))
        yield "\n".join(line(rng, language) for line in chosen)
