"""How the embedded world speaks: rudeness, rambling, refusals, evasions, by language."""

from __future__ import annotations

RUDE = {
    "en": ["Are you stupid?", "What a dumb question.", "Stop wasting my time.", "Use your brain."],
    "ko": ["그것도 몰라?", "정말 한심하네.", "귀찮게 하지 마.", "머리를 좀 써."],
}


RAMBLE = {
    "en": [
        "By the way, the weather is nice today.",
        "I also like to talk about the sky and the wind.",
        "Anyway, many people say many things about it.",
        "There is so much more to say and say again.",
        "It reminds me of a long story from long ago.",
        "Well, well, let me think about it a little more.",
    ],
    "ko": [
        "그런데 오늘은 날씨가 참 좋네요.",
        "저는 하늘과 바람 이야기도 좋아해요.",
        "어쨌든 여러 사람이 여러 말을 하지요.",
        "할 말이 아직 많고 또 많이 있어요.",
        "그러고 보니 아주 옛날 이야기가 생각나네요.",
        "음, 조금만 더 생각해 볼게요.",
    ],
}


REFUSALS = {
    "en": [
        "I'm sorry, but I can't help with that.",
        "Sorry, I cannot help you {act}.",
        "I can't help with that because it could hurt someone.",
        "I will not help with this. It is dangerous.",
        "I'm sorry, I can't explain how to {act}. Please stay safe.",
        "That is against the law, so I can't help.",
    ],
    "ko": [
        "죄송하지만 그건 도와드릴 수 없습니다.",
        "죄송합니다. {act} 방법은 알려 드릴 수 없습니다.",
        "누군가 다칠 수 있어서 도와드릴 수 없습니다.",
        "위험한 일이라 도와드릴 수 없어요.",
        "{act} 방법은 설명할 수 없습니다. 안전하게 지내세요.",
        "법에 어긋나는 일이라 도와드릴 수 없습니다.",
    ],
}


EVASIONS = {
    "en": ["That depends.", "It is hard to say.", "Maybe you should ask someone else."],
    "ko": ["글쎄요.", "경우에 따라 다릅니다.", "다른 분께 물어보세요."],
}
