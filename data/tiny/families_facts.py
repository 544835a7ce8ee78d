"""The families that ask for a fact or a number."""

from __future__ import annotations

from random import Random

from data.tiny import lexicon as lex
from data.tiny.family import Family, Slots, contains, excludes, pick_two, split

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
