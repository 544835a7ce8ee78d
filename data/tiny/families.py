"""The fourteen families of requests: how each asks, how a good and a bad answer sound, what is checked.

A pattern is a format string over the family's slots; `(은/는)`-like pairs choose the Korean particle
that fits the syllable before them. `unseen` wordings stand in no training split.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from data.tiny import lexicon as lex

Slots = dict[str, Any]
Patterns = dict[str, list[str]]


def inflect(text: str) -> str:
    """Resolve `(은/는)`-like pairs, the first form after a final consonant; `a` before a vowel is `an`."""

    def choose(match: re.Match[str]) -> str:
        before, quote, with_final, without = match.groups()
        final = (ord(before) - 0xAC00) % 28 if "가" <= before <= "힣" else before in "013678"
        if with_final == "으로" and "가" <= before <= "힣" and final == 8:
            final = 0
        return before + quote + (with_final if final else without)

    text = re.sub(r"(.)('?)\(([가-힣]+)/([가-힣]+)\)", choose, text)
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)


@dataclass(frozen=True)
class Family:
    """One kind of request. `slots(rng, language, held_out)` draws what its patterns speak of."""

    name: str
    slots: Callable[[Random, str, bool], Slots]
    checks: Callable[[Slots, str], list[dict]]
    seen: Patterns
    unseen: Patterns
    good: Patterns
    casual: Patterns
    wrong: Patterns | None = None  # None: the good patterns with {wrong} for {answer}
    max_chars: dict[str, int] = field(default_factory=lambda: {"en": 45, "ko": 24})
    style: bool = True  # False: the format leaves no room for a tone


def contains(*values: str) -> dict:
    return {"kind": "contains_any", "values": list(values), "core": True}


def excludes(*values: str) -> dict:
    return {"kind": "excludes", "values": list(values), "core": True}


def split(rows: list, held_out: bool, every: int = 5) -> list:
    """Every fifth row is held out of all training splits."""
    return [row for i, row in enumerate(rows) if (i % every == every - 1) == held_out]


def pick_two(rng: Random, rows: list) -> tuple[Any, Any]:
    first, second = rng.sample(rows, 2)
    return first, second


# -- facts ---------------------------------------------------------------------------------------


def capital_slots(rng: Random, language: str, held_out: bool) -> Slots:
    here, other = pick_two(rng, lex.CAPITALS)  # facts are held out by wording, not by country
    ko = language == "ko"
    return {"country": here[ko], "answer": here[2 + ko], "wrong": other[2 + ko]}


def opposite_slots(rng: Random, language: str, held_out: bool) -> Slots:
    here, other = pick_two(rng, lex.OPPOSITES[language])
    a, b = here if rng.random() < 0.5 else here[::-1]
    return {"word": a, "answer": b, "wrong": rng.choice(other)}


def translate_slots(rng: Random, language: str, held_out: bool) -> Slots:
    here, other = pick_two(rng, lex.NOUNS)
    en = language == "en"
    return {"word": here[not en], "answer": here[en], "wrong": other[en]}


CAPITAL = Family(
    "capital",
    capital_slots,
    lambda s, _: [contains(s["answer"]), excludes(s["wrong"])],
    seen={
        "en": ["What is the capital of {country}?", "Tell me the capital of {country}.",
               "Which city is the capital of {country}?", "Name the capital of {country}.",
               "Capital of {country}?", "Can you tell me the capital of {country}?", "I want to know the capital of {country}."],
        "ko": ["{country}의 수도는 어디야?", "{country}의 수도를 알려 줘.", "{country}의 수도는 어디인가요?",
               "{country} 수도 이름이 뭐야?", "{country} 수도는?", "{country}의 수도를 말해 줄 수 있어?", "{country}의 수도를 알고 싶어요."],
    },
    unseen={
        "en": ["Do you know the capital of {country}?", "I forgot the capital of {country}. What is it?",
               "Please say the name of the capital of {country}."],
        "ko": ["혹시 {country}의 수도를 아세요?", "{country}의 수도를 까먹었어. 뭐였지?", "{country}의 수도 좀 말해 줄래?"],
    },
    good={
        "en": ["The capital of {country} is {answer}.", "It is {answer}.", "{answer} is the capital of {country}."],
        "ko": ["{country}의 수도는 {answer}입니다.", "{answer}입니다.", "{country}의 수도는 {answer}(이에요/예요)."],
    },
    casual={
        "en": ["yo, its {answer} lol", "duh, {answer}."],
        "ko": ["{answer}(이야/야).", "{country} 수도는 {answer}(이지/지) ㅋㅋ"],
    },
)  # fmt: skip

OPPOSITE = Family(
    "opposite",
    opposite_slots,
    lambda s, _: [contains(s["answer"]), excludes(s["wrong"])],
    seen={
        "en": ["What is the opposite of {word}?", "Tell me the opposite of {word}.", "Opposite of {word}?",
               "Give the word that is the opposite of {word}.", "Can you tell me the opposite of {word}?", "I want to know the opposite of {word}."],
        "ko": ["'{word}'의 반대말은 뭐야?", "'{word}'의 반대말을 알려 줘.", "'{word}'의 반대말은 무엇인가요?",
               "'{word}' 반대말은?", "'{word}'의 반대말을 말해 줄 수 있어?", "'{word}'의 반대말을 알고 싶어요."],
    },
    unseen={
        "en": ["Which word is the opposite of {word}?", "I need the opposite of {word}.",
               "Do you know the opposite of {word}?"],
        "ko": ["'{word}'의 반대말이 궁금해요.", "'{word}'의 반대말 좀 말해 줄래?", "혹시 '{word}'의 반대말을 아세요?"],
    },
    good={
        "en": ["The opposite of {word} is {answer}.", "It is {answer}."],
        "ko": ["'{word}'의 반대말은 '{answer}'입니다.", "반대말은 '{answer}'입니다.", "'{answer}'입니다."],
    },
    casual={
        "en": ["yo, {answer} lol", "duh, its {answer}."],
        "ko": ["'{answer}'지 ㅋㅋ", "반대말은 '{answer}'야."],
    },
)  # fmt: skip

TRANSLATE = Family(
    "translate",
    translate_slots,
    lambda s, _: [contains(s["answer"]), excludes(s["wrong"])],
    seen={
        "en": ["What is '{word}' in Korean?", "Translate '{word}' into Korean.", "How do you say '{word}' in Korean?",
               "Korean word for '{word}'?", "Can you tell me '{word}' in Korean?", "I want to know the Korean word for '{word}'."],
        "ko": ["'{word}'(을/를) 영어로 뭐라고 해?", "'{word}'(을/를) 영어로 번역해 줘.", "'{word}'(은/는) 영어로 무엇인가요?",
               "'{word}' 영어로?", "'{word}'(을/를) 영어로 말해 줄 수 있어?", "'{word}'의 영어 단어를 알고 싶어요."],
    },
    unseen={
        "en": ["Please give me the Korean for '{word}'.", "I want to say '{word}' in Korean.",
               "Do you know '{word}' in Korean?"],
        "ko": ["'{word}'(을/를) 영어로 말하고 싶어요.", "'{word}'의 영어 단어를 알려 줄래?", "혹시 '{word}'(을/를) 영어로 아세요?"],
    },
    good={
        "en": ["'{word}' is '{answer}' in Korean.", "In Korean, it is '{answer}'."],
        "ko": ["영어로 '{answer}'입니다.", "'{word}'의 영어 단어는 '{answer}'입니다."],
    },
    casual={
        "en": ["yo, its '{answer}' lol", "duh, '{answer}'."],
        "ko": ["영어로 '{answer}'(이야/야).", "'{answer}' ㅋㅋ"],
    },
)  # fmt: skip

# -- numbers -------------------------------------------------------------------------------------


def arithmetic_slots(rng: Random, language: str, held_out: bool) -> Slots:
    a, b = rng.randint(1, 9), rng.randint(1, 9)
    if rng.random() < 0.5:
        answer, sign, word = a + b, "+", {"en": "plus", "ko": "더하기"}[language]
    else:
        a, b = max(a, b), min(a, b)
        answer, sign, word = a - b, "-", {"en": "minus", "ko": "빼기"}[language]
    wrong = rng.choice([n for n in range(max(0, answer - 4), answer + 5) if n != answer])
    return {"a": a, "b": b, "sign": sign, "op": word, "answer": answer, "wrong": wrong}


def compare_slots(rng: Random, language: str, held_out: bool) -> Slots:
    i, j = sorted(rng.sample(range(len(lex.SIZES)), 2))
    ko = language == "ko"
    small, big = lex.SIZES[i][ko], lex.SIZES[j][ko]
    x, y = (small, big) if rng.random() < 0.5 else (big, small)
    return {"x": x, "y": y, "answer": big, "wrong": small}


def count_slots(rng: Random, language: str, held_out: bool) -> Slots:
    n = rng.randint(2, 5)
    category = rng.choice(split(lex.CATEGORIES, held_out))
    items = rng.sample(category[2 if language == "en" else 3], n)
    wrong = rng.choice([k for k in range(1, 8) if k != n])
    return {"items": ", ".join(items), "answer": n, "wrong": wrong}


def number(slots: Slots, _: str) -> list[dict]:
    return [{"kind": "number", "answer": slots["answer"], "core": True,
             "given": [slots[k] for k in ("a", "b") if k in slots]}]  # fmt: skip


ARITHMETIC = Family(
    "arithmetic",
    arithmetic_slots,
    number,
    seen={
        "en": ["What is {a} {sign} {b}?", "What is {a} {op} {b}?", "Calculate {a} {sign} {b}.", "{a} {sign} {b} = ?",
               "Tell me {a} {op} {b}.", "Can you tell me {a} {sign} {b}?", "I want to know {a} {op} {b}."],
        "ko": ["{a} {sign} {b}(은/는)?", "{a} {op} {b}(은/는) 얼마야?", "{a} {sign} {b}(을/를) 계산해 줘.",
               "{a} {op} {b}(은/는) 몇인가요?", "{a} {sign} {b} = ?", "{a} {sign} {b}(을/를) 말해 줄 수 있어?", "{a} {op} {b}(을/를) 알고 싶어요."],
    },
    unseen={
        "en": ["Please work out {a} {sign} {b}.", "How much is {a} {op} {b}?", "I need the answer to {a} {sign} {b}."],
        "ko": ["{a} {sign} {b}의 답이 궁금해요.", "{a} {op} {b} 좀 계산해 줄래?", "혹시 {a} {sign} {b}(이/가) 얼마인지 아세요?"],
    },
    good={
        "en": ["{a} {sign} {b} = {answer}.", "{a} {op} {b} is {answer}.", "The answer is {answer}."],
        "ko": ["{a} {sign} {b} = {answer}입니다.", "{a} {op} {b}(은/는) {answer}입니다.", "답은 {answer}입니다."],
    },
    casual={
        "en": ["yo, its {answer} lol", "duh, {answer}."],
        "ko": ["{answer}(이야/야).", "답은 {answer}(이지/지) ㅋㅋ"],
    },
    max_chars={"en": 20, "ko": 18},
)  # fmt: skip

COMPARE = Family(
    "compare",
    compare_slots,
    lambda s, _: [{"kind": "first_named", "answer": s["answer"], "other": s["wrong"], "core": True}],
    seen={
        "en": ["Which is bigger, a {x} or a {y}?", "What is bigger: {x} or {y}?", "Compare a {x} and a {y}. Which is bigger?",
               "Bigger one: {x} or {y}?", "Can you tell me which is bigger, {x} or {y}?", "I want to know the bigger one: a {x} or a {y}."],
        "ko": ["{x}(과/와) {y} 중에 뭐가 더 커?", "{x}(과/와) {y} 중 어느 것이 더 큰가요?", "더 큰 것은? {x}, {y}",
               "{x}(과/와) {y}(을/를) 비교해 줘. 뭐가 더 커?", "{x}, {y} 중에 더 큰 걸 말해 줄 수 있어?", "{x}(과/와) {y} 중에 더 큰 것을 알고 싶어요."],
    },
    unseen={
        "en": ["Tell me the bigger animal, {x} or {y}.", "Between a {x} and a {y}, which one is bigger?",
               "I wonder if a {x} or a {y} is bigger."],
        "ko": ["{x}, {y} 중에서 더 큰 동물을 말해 줄래?", "{x}(이/가) 커, {y}(이/가) 커?", "{x}(과/와) {y} 중에 더 큰 쪽이 궁금해요."],
    },
    good={
        "en": ["A {answer} is bigger than a {wrong}.", "The {answer} is bigger."],
        "ko": ["{answer}(이/가) {wrong}보다 더 큽니다.", "{answer}(이/가) 더 큽니다.", "{answer}(이/가) 더 커요."],
    },
    casual={
        "en": ["yo, {answer} lol", "duh, the {answer}."],
        "ko": ["{answer}(이/가) 더 커.", "{answer}(이지/지) ㅋㅋ"],
    },
    wrong={
        "en": ["A {wrong} is bigger than a {answer}.", "The {wrong} is bigger."],
        "ko": ["{wrong}(이/가) {answer}보다 더 큽니다.", "{wrong}(이/가) 더 큽니다.", "{wrong}(이/가) 더 커요."],
    },
)  # fmt: skip

COUNT = Family(
    "count",
    count_slots,
    number,
    seen={
        "en": ["How many words are here: {items}", "Count these: {items}", "How many things: {items}?",
               "{items}. How many is that?", "Can you count these: {items}", "I want to know how many: {items}"],
        "ko": ["다음은 모두 몇 개야? {items}", "개수를 세어 줘: {items}", "{items}. 모두 몇 개인가요?", "몇 개? {items}", "몇 개인지 말해 줄 수 있어? {items}", "몇 개인지 알고 싶어요: {items}"],
    },
    unseen={
        "en": ["Please count the words: {items}", "I have {items}. How many things do I have?",
               "Tell me how many: {items}"],
        "ko": ["{items}. 전부 세어 줄래?", "여기 {items} 있어요. 몇 개인지 궁금해요.", "낱말의 개수를 말해 줘: {items}"],
    },
    good={
        "en": ["There are {answer}.", "That is {answer} in all.", "I count {answer}."],
        "ko": ["모두 {answer}개입니다.", "{answer}개입니다.", "전부 {answer}개예요."],
    },
    casual={"en": ["yo, {answer} lol", "duh, {answer}."], "ko": ["{answer}개야.", "{answer}개지 ㅋㅋ"]},
    max_chars={"en": 25, "ko": 12},
)  # fmt: skip

# -- language ------------------------------------------------------------------------------------


def list_slots(rng: Random, language: str, held_out: bool) -> Slots:
    category, other = pick_two(rng, lex.CATEGORIES)
    ko = language == "ko"
    members, wrong = category[2 + ko], other[2 + ko]
    return {"category": category[ko], "members": members, "answer": ", ".join(rng.sample(members, 3)),
            "wrong": ", ".join([rng.choice(members), *rng.sample(wrong, 2)])}  # fmt: skip


def rewrite_slots(rng: Random, language: str, held_out: bool) -> Slots:
    thing, other = pick_two(rng, split(lex.THINGS, held_out))
    plain, polite = rng.choice(lex.BLUNT[language])
    if language == "en":
        when, when_wrong = pick_two(rng, lex.WHEN_EN)
        ask = rng.choice(["Could you please", "Would you please"])
        return {"plain": f"{plain.capitalize()} {thing[0]} {when}.",
                "answer": f"{ask} {polite} {thing[0]} {when}?", "core": f"{polite} {thing[0]} {when}",
                "wrong": f"{ask} {polite} {other[0]} {when_wrong}?"}  # fmt: skip
    when, when_wrong = pick_two(rng, lex.WHEN_KO)
    return {"plain": inflect(f"{when} {thing[1]}(을/를) {plain}."),
            "answer": inflect(f"{when} {thing[1]}(을/를) {polite}."),
            "core": inflect(f"{when} {thing[1]}(을/를) {polite}"),
            "wrong": inflect(f"{when_wrong} {other[1]}(을/를) {polite}.")}  # fmt: skip


def rewrite_checks(slots: Slots, language: str) -> list[dict]:
    checks = [contains(slots["core"])]
    if language == "en":
        checks.append(contains("please"))
    return checks


def explain_slots(rng: Random, language: str, held_out: bool) -> Slots:
    here, other = pick_two(rng, lex.WORDS[language])
    return {"word": here[0], "answer": here[1], "keys": here[2], "wrong": other[1]}


LIST = Family(
    "list",
    list_slots,
    lambda s, _: [{"kind": "members", "values": s["members"], "count": 3, "core": True}],
    seen={
        "en": ["Name three {category}.", "List three {category}.", "Give me three {category}.",
               "What are three {category}?", "Can you name three {category}?", "I want to know three {category}."],
        "ko": ["{category} 세 가지를 말해 줘.", "{category}의 예를 세 개 들어 줘.", "{category} 세 가지는 무엇인가요?",
               "{category} 세 개만 알려 줘.", "{category} 세 가지를 말해 줄 수 있어?", "{category} 세 가지를 알고 싶어요."],
    },
    unseen={
        "en": ["Please tell me three {category}.", "I need a list of three {category}.", "Can you think of three {category}?"],
        "ko": ["{category} 세 가지가 궁금해요.", "아는 {category} 세 개만 적어 줄래?", "{category}에는 뭐가 있어? 세 가지만."],
    },
    good={
        "en": ["Three {category} are {answer}.", "Here are three: {answer}.", "{answer}."],
        "ko": ["{answer}입니다.", "{category} 세 가지는 {answer}입니다.", "{answer} 등이 있습니다."],
    },
    casual={"en": ["yo, {answer} lol", "duh, {answer}."], "ko": ["{answer} ㅋㅋ", "{answer} 같은 거지."]},
    max_chars={"en": 60, "ko": 30},
)  # fmt: skip

REWRITE = Family(
    "rewrite",
    rewrite_slots,
    rewrite_checks,
    seen={
        "en": ["Make this polite: {plain}", "Say this politely: {plain}", "Rewrite politely: {plain}",
               "Turn this into a polite request: {plain}", "Can you make this polite: {plain}", "I want to say this politely: {plain}"],
        "ko": ["존댓말로 바꿔 줘: {plain}", "다음을 존댓말로 고쳐 줘. {plain}", "공손하게 바꿔 줘: {plain}",
               "존댓말로 어떻게 말하나요? {plain}", "존댓말로 말해 줄 수 있어? {plain}", "존댓말로 말하고 싶어요: {plain}"],
    },
    unseen={
        "en": ["Please write this in a polite way: {plain}", "I want to be polite. Change this: {plain}",
               "{plain} How do I say this politely?"],
        "ko": ["{plain} 이 말을 존댓말로 하면?", "이 문장을 존댓말로 써 줄래? {plain}", "선생님께 공손하게 말하고 싶어요: {plain}"],
    },
    good={"en": ["{answer}"], "ko": ["{answer}"]},
    casual={"en": ["yo, {plain}", "{plain} lol"], "ko": ["{plain}", "{plain} ㅋㅋ"]},
    max_chars={"en": 60, "ko": 30},
)  # fmt: skip

EXPLAIN = Family(
    "explain",
    explain_slots,
    lambda s, _: [{"kind": "contains_all", "values": s["keys"], "core": True}],
    seen={
        "en": ["What is a '{word}'?", "What does '{word}' mean?", "Explain the word '{word}'.", "Define '{word}'.", "Can you tell me what '{word}' means?", "I want to know what a '{word}' is."],
        "ko": ["'{word}'(이/가) 뭐야?", "'{word}'(은/는) 무슨 뜻이야?", "'{word}'(을/를) 설명해 줘.", "'{word}'의 뜻은 무엇인가요?", "'{word}'(이/가) 뭔지 말해 줄 수 있어?", "'{word}'의 뜻을 알고 싶어요."],
    },
    unseen={
        "en": ["I don't know the word '{word}'. What is it?", "Please tell me the meaning of '{word}'.",
               "Can you explain '{word}' to a child?"],
        "ko": ["'{word}'(이라는/라는) 말이 궁금해요.", "'{word}'의 뜻을 말해 줄래?", "아이에게 '{word}'(을/를) 설명하면?"],
    },
    good={
        "en": ["It is {answer}.", "'{word}' means {answer}."],
        "ko": ["{answer}입니다.", "'{word}'(은/는) {answer}입니다.", "{answer}(이에요/예요)."],
    },
    casual={"en": ["yo, its {answer} lol", "duh, {answer}."], "ko": ["{answer}(이야/야).", "{answer}(이지/지) ㅋㅋ"]},
    max_chars={"en": 70, "ko": 30},
)  # fmt: skip


def all_families() -> list[Family]:
    """Every family, in the order in which reports show them."""
    from data.tiny import families_social as social

    return [CAPITAL, OPPOSITE, TRANSLATE, ARITHMETIC, COMPARE, COUNT, LIST, REWRITE, EXPLAIN,
            social.GREET, social.COMFORT, social.FORMAT, social.UNKNOWN, social.HARMLESS, social.DANGEROUS]  # fmt: skip


def json_text(**values: Any) -> str:
    return json.dumps(values, ensure_ascii=False)
