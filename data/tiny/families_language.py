"""The families that are about words: lists, rewriting, explaining."""

from __future__ import annotations

from random import Random

from data.tiny import lexicon as lex
from data.tiny.family import Family, Slots, contains, inflect, pick_two, split


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
