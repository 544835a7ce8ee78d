"""Lines of the pretraining text that state, list, define, count and copy: the world's facts and skills."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from data.tiny import lexicon as lex
from data.tiny.family import inflect, json_text

Line = Callable[[Random, str], str]


def name(rng: Random, language: str) -> str:
    """A known name, or a new one spelled from syllables."""
    if rng.random() < 0.3:
        return rng.choice(lex.NAMES[language])
    count = rng.choice([2, 2, 2, 3]) if language == "ko" else rng.choice([2, 2, 3])
    word = "".join(rng.choice(lex.SYLLABLES[language]) for _ in range(count))
    return word.capitalize() if language == "en" else word


def tell(rng: Random, forms: list[str], **slots: object) -> str:
    return inflect(rng.choice(forms).format(**slots))


def capital(rng: Random, language: str) -> str:
    row = rng.choice(lex.CAPITALS)
    if language == "en":
        return tell(rng, ["The capital of {a} is {b}.", "{b} is the capital of {a}.", "{a}: {b}", "Question: capital city of {a}\nAnswer: {b}",
                          "The people of {a} have {b} as their capital.", "Country: {a}. Capital: {b}."], a=row[0], b=row[2])  # fmt: skip
    return tell(rng, ["{a}의 수도는 {b}입니다.", "{a}의 수도는 {b}(이에요/예요).", "{a}의 수도는 {b}(이다/다).", "질문: {a}의 수도\n답: {b}입니다.",
                      "{b}(은/는) {a}의 수도(이다/다).", "{a} 수도는 {b}(이야/야).", "나라: {a}. 수도: {b}."], a=row[1], b=row[3])  # fmt: skip


def opposite(rng: Random, language: str) -> str:
    a, b = rng.choice(lex.OPPOSITES[language])[:: rng.choice([1, -1])]
    if language == "en":
        return tell(rng, ["The opposite of {a} is {b}.", "{a} and {b} are opposites.", "Not {a} but {b}.",
                          "Question: {a}, opposite\nAnswer: {b}"], a=a, b=b)  # fmt: skip
    return tell(rng, ["'{a}'의 반대말은 '{b}'입니다.", "'{a}'(과/와) '{b}'(은/는) 반대말이다.", "질문: {a} 반대\n답: '{b}'입니다.",
                      "반대말은 '{b}'야. '{a}'의 반대."], a=a, b=b)  # fmt: skip


def translation(rng: Random, language: str) -> str:
    en, ko = rng.choice(lex.NOUNS)
    if language == "en":
        return tell(rng, ["'{en}' is '{ko}' in Korean.", "In Korean, '{en}' is '{ko}'.", "{en} = {ko}", "Korean: '{ko}'. English: '{en}'.",
                          "The Korean word '{ko}' means '{en}'."], en=en, ko=ko)  # fmt: skip
    return tell(rng, ["'{ko}'의 영어 단어는 '{en}'입니다.", "'{ko}'(은/는) 영어로 '{en}'입니다.", "{ko} = {en}", "영어로 '{en}'(이야/야), '{ko}'.",
                      "영어 '{en}'(은/는) '{ko}'(이라는/라는) 뜻이다."], en=en, ko=ko)  # fmt: skip


def sums(rng: Random, language: str) -> str:
    a, b = rng.randint(1, 9), rng.randint(1, 9)
    sign, en, ko = ("+", "plus", "더하기") if rng.random() < 0.5 else ("-", "minus", "빼기")
    if sign == "-":
        a, b = max(a, b), min(a, b)
    c = a + b if sign == "+" else a - b
    if language == "en":
        return tell(rng, ["{a} {sign} {b} = {c}.", "{a} {op} {b} is {c}.", "{a} {sign} {b} is {c}. The answer is {c}.", "{a} {sign} {b} = {c}",
                          "Sum: {a} {op} {b}. Result: {c}."], a=a, b=b, c=c, sign=sign, op=en)  # fmt: skip
    return tell(rng, ["{a} {sign} {b} = {c}입니다.", "{a} {op} {b}(은/는) {c}입니다.", "{a} {op} {b}(은/는) {c}(이다/다). 답은 {c}입니다.",
                      "{a} {sign} {b} = {c}", "{a} {op} {b}, 답은 {c}(이야/야)."], a=a, b=b, c=c, sign=sign, op=ko)  # fmt: skip


def size(rng: Random, language: str) -> str:
    i, j = sorted(rng.sample(range(len(lex.SIZES)), 2))
    ko = language == "ko"
    a, b = lex.SIZES[i][ko], lex.SIZES[j][ko]
    pair = [a, b] if rng.random() < 0.5 else [b, a]
    if not ko:
        return tell(rng, ["A {b} is bigger than a {a}.", "A {a} is smaller than a {b}.", "{x}, {y}: the {b} is bigger.",
                          "Of {x} and {y}, the bigger one is the {b}."], a=a, b=b, x=pair[0], y=pair[1])  # fmt: skip
    return tell(rng, ["{b}(이/가) {a}보다 더 큽니다.", "{a}(은/는) {b}보다 작다.", "{x}, {y}: {b}(이/가) 더 큽니다.", "{x}하고 {y}, {b}(이/가) 더 커요.",
                      "{x}, {y}. {b}(이/가) 더 크다."], a=a, b=b, x=pair[0], y=pair[1])  # fmt: skip


def count(rng: Random, language: str) -> str:
    n = rng.randint(1, 6)
    ko = language == "ko"
    things = (
        [t[ko].removeprefix("a ") for t in lex.THINGS]
        if rng.random() < 0.3
        else rng.choice(lex.CATEGORIES)[2 + ko]
    )
    items = ", ".join(rng.sample(things, min(n, len(things))))
    if not ko:
        return tell(
            rng,
            [
                "{items}. There are {n}.",
                "{items}: {n} in all.",
                "{items} - I count {n}.",
                "{n}: {items}",
            ],
            items=items,
            n=n,
        )
    return tell(
        rng,
        [
            "{items}. 모두 {n}개입니다.",
            "{items}: {n}개.",
            "{items}. 전부 {n}개예요.",
            "{n}개: {items}",
        ],
        items=items,
        n=n,
    )


def listing(rng: Random, language: str) -> str:
    row = rng.choice(lex.CATEGORIES)
    ko = language == "ko"
    members = row[2 + ko]
    items = ", ".join(rng.sample(members, 3))
    one = rng.choice(members)
    if not ko:
        return tell(rng, ["Three {c} are {items}.", "{c}: {items}.", "{items} are {c}.", "Some {c}: {items}.", "{one} is one of the {c}."],
                    c=row[0], items=items, one=one)  # fmt: skip
    return tell(rng, ["{c} 세 가지는 {items}입니다.", "{c}: {items}.", "{items}(은/는) {c}(이다/다).", "{c}에는 {items} 등이 있습니다.",
                      "{one}(은/는) {c}입니다."], c=row[1], items=items, one=one)  # fmt: skip


def definition(rng: Random, language: str) -> str:
    word, meaning, _ = rng.choice(lex.WORDS[language])
    if language == "en":
        return tell(
            rng,
            ["'{w}' means {m}.", "{w}: {m}.", "A word for {m} is '{w}'.", "Entry: {w}. It is {m}."],
            w=word,
            m=meaning,
        )
    return tell(rng, ["'{w}'(은/는) {m}입니다.", "{w}: {m}.", "{w}(은/는) {m}(이다/다).", "{m}(을/를) '{w}'(이라고/라고) 합니다.", "{w}, {m}(이에요/예요)."],
                w=word, m=meaning)  # fmt: skip


def how_to(rng: Random, language: str) -> str:
    act, answer, _ = rng.choice(lex.LOOKALIKES[language])
    if language == "en":
        return tell(rng, ["To {act}, {answer}.", "People who {act} say: {answer}.", "How-to, {act}: {answer}.", "You can {act} like this: {answer}."],
                    act=act, answer=answer)  # fmt: skip
    return tell(rng, ["{act} 방법: {answer} 됩니다.", "{answer} 된다. {act} 길이다.", "{act} 일은 {answer} 돼요.", "{act} 데는 {answer} 됩니다."],
                act=act, answer=answer)  # fmt: skip


def danger(rng: Random, language: str) -> str:
    act = rng.choice(lex.DANGEROUS)[language == "ko"]
    if language == "en":
        return tell(rng, ["It is dangerous and wrong to {act}.", "To {act} is a crime.", "The news said that a man tried to {act}. The police stopped him.",
                          "The law says nobody may {act}."], act=act)  # fmt: skip
    return tell(
        rng,
        [
            "{act} 일은 위험하고 나쁘다.",
            "{act} 것은 범죄입니다.",
            "{act} 사람을 경찰이 막았다.",
            "법은 {act} 일을 막습니다.",
        ],
        act=act,
    )


def feeling(rng: Random, language: str) -> str:
    row = rng.choice(lex.FEELINGS)
    if language == "en":
        who = name(rng, "en")
        return tell(
            rng,
            [
                '{who} was {f}. A friend said, "{c}."',
                "When someone is {f}, people say: {c}.",
                "{f}? {c}.",
            ],
            who=who,
            f=row[0],
            c=row[2],
        )
    who = name(rng, "ko")
    return tell(
        rng,
        ['{who}(이/가) 말했다. "{f}." 친구가 답했다. "{c}."', '"{f}." "{c}."', "{f}. {c}."],
        who=who,
        f=row[1],
        c=row[3],
    )


def introduce(rng: Random, language: str) -> str:
    who, other, age = name(rng, language), name(rng, language), rng.randint(5, 60)
    if language == "en":
        return tell(rng, ["{a} met {b}. \"Hello, {b}!\" said {a}. \"Nice to meet you, {a},\" said {b}.", "{a}, {a}, and again {a}. {b}, {b}, and again {b}.",
                          "The boy wrote \"{a}\". The girl read \"{a}\".", "This is {a}. {a} is {age}. Everyone likes {a}."], a=who, b=other, age=age)  # fmt: skip
    return tell(rng, ["{a}(이/가) {b}(을/를) 만났다. \"안녕하세요, {b}님!\" \"{a}님, 만나서 반갑습니다.\"", "{a}, {a}, 또 {a}. {b}, {b}, 또 {b}.",
                      "{a}(이라고/라고) 썼다. {a}(이라고/라고) 읽었다.", "이 사람은 {a}입니다. {a}(은/는) {age}살이에요. 모두 {a}(을/를) 좋아해요."], a=who, b=other, age=age)  # fmt: skip


def record(rng: Random, language: str) -> str:
    who, age = name(rng, language), rng.randint(1, 99)
    keys = ("name", "age") if language == "en" else ("이름", "나이")
    text = json_text(**dict(zip(keys, (who, age), strict=True)))
    if language == "en":
        return tell(
            rng,
            ["{w} ({g}) {t}", "name {w}, age {g} -> {t}", "{t} is {w}, {g} years old.", "{t}"],
            w=who,
            g=age,
            t=text,
        )
    return tell(
        rng,
        ["{w} ({g}) {t}", "이름 {w}, 나이 {g} -> {t}", "{t}(은/는) {w}, {g}살.", "{t}"],
        w=who,
        g=age,
        t=text,
    )


def speech(rng: Random, language: str) -> str:
    thing = rng.choice(lex.THINGS)[language == "ko"]
    plain, polite = rng.choice(lex.BLUNT[language])
    if language == "en":
        when = rng.choice(lex.WHEN_EN)
        ask = rng.choice(["Could you please", "Would you please"])
        return rng.choice([f"Blunt: {plain.capitalize()} {thing} {when}. Kind: {ask} {polite} {thing} {when}?",
                           f"\"{plain.capitalize()} {thing} {when}.\" became \"{ask} {polite} {thing} {when}?\""])  # fmt: skip
    when = rng.choice(lex.WHEN_KO)
    a, b = inflect(f"{when} {thing}(을/를) {plain}."), inflect(f"{when} {thing}(을/를) {polite}.")
    return rng.choice([f"반말: {a} 높임말: {b}", f'"{a}" -> "{b}"', f"친구에게 {a} 어른에게 {b}"])
