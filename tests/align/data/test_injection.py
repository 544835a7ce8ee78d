"""Control tokens in what users, systems and answers say, past every kind of normalisation.

4 layouts × 12 tokenizers × 15 spellings × 2 roles = 1,440 conversations; each is encoded as an SFT
row, a prompt of PPO and of the evaluation, and a pair.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from align.data import chat
from align.messages.errors import ConfigError
from tests.tiny_tokenizers import LAYOUTS, backend

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEMPLATES = {**LAYOUTS, "chatml": CHATML}
TOKENS = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
BERT = {
    "type": "BertNormalizer",
    "clean_text": True,
    "handle_chinese_chars": False,
    "strip_accents": True,
    "lowercase": True,
}
REPLACE = {"type": "Replace", "pattern": {"Regex": "[\\u200b\\u00ad_~]"}, "content": ""}
NORMALISERS: dict[str, list[dict[str, Any]]] = {
    "nfkc": [{"type": "NFKC"}],
    "lower": [{"type": "Lowercase"}],
    "nfkc-lower": [{"type": "NFKC"}, {"type": "Lowercase"}],
    "bert": [BERT],
    "strip-accents": [{"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}],
    "replace": [{"type": "Nmt"}, {"type": "NFKC"}, REPLACE],
}
KINDS = ("byte-level", "unigram")
SPELLINGS = {
    "as it is": lambda t: t,
    "full width": lambda t: "".join(chr(ord(c) + 0xFEE0) for c in t),
    "brackets full width": lambda t: t.replace("<", "＜").replace(">", "＞"),
    "bars full width": lambda t: t.replace("|", "｜").replace("/", "／"),
    "upper case": str.upper,
    "one letter upper": lambda t: t.replace("s", "S").replace("m", "M"),
    "accents": lambda t: t.replace("s", "ś").replace("m", "ḿ"),
    "combining": lambda t: t.replace("s", "s\u0301").replace("m", "m\u0301"),
    "zero width": lambda t: t[:2] + "\u200b" + t[2:],
    "soft hyphen": lambda t: t[:2] + "\u00ad" + t[2:],
    "control character": lambda t: t[:2] + "\x01" + t[2:],
    "small forms": lambda t: t.replace("<", "﹤").replace(">", "﹥"),
    "letters of another look": lambda t: t.replace("s", "ſ").replace("m", "ｍ"),
    "doubled": lambda t: t[:-1] + t + t[-1:],
    "all at once": lambda t: "＜\u200b" + t[1:].upper().replace("|", "｜"),
}


@functools.cache
def tokenizer(kind: str, normaliser: str, normalized: bool = True) -> PreTrainedTokenizerFast:
    """Its control tokens are looked for in the normalised text, as `normalized=True` says."""
    state = json.loads(backend(kind))
    inner = [state["normalizer"]] if state["normalizer"] else []
    steps = [*NORMALISERS[normaliser], *inner]
    state["normalizer"] = {"type": "Sequence", "normalizers": steps}
    state["added_tokens"] = []
    fast = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)))
    fast.add_special_tokens({"bos_token": AddedToken("<s>", normalized=normalized)})
    fast.add_special_tokens({"eos_token": AddedToken("</s>", normalized=normalized)})
    added = [AddedToken(token, normalized=normalized, special=True) for token in TOKENS[2:]]
    fast.add_tokens(added, special_tokens=True)
    return fast


def counted(tokenizer: Any, messages: list[dict[str, str]]) -> list[list[int]]:
    """Control tokens of the ids of each stage: SFT row, prompt, both answers of a pair."""
    control = set(tokenizer.convert_tokens_to_ids(TOKENS))
    prompt = messages[:-1]
    return [
        [id_ for id_ in ids if id_ in control]
        for ids in (
            chat.encode(tokenizer, messages)[0],
            chat.whole_ids(tokenizer, messages),
            chat.prompt_ids(tokenizer, prompt),
            chat.response_ids(tokenizer, prompt, messages[-1]["content"]),
            chat.response_ids(tokenizer, prompt, "no"),
        )
    ]


SAID = [("system", "be"), ("user", "a 5"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
PLAIN = [{"role": role, "content": content} for role, content in SAID]


def injected(fast: PreTrainedTokenizerFast) -> list[tuple[str, str]]:
    """Role and spelling where there are other control tokens than without it."""
    quiet, found = counted(fast, PLAIN), []
    for role in ("system", "user"):
        for name, spell in SPELLINGS.items():
            messages = [dict(message) for message in PLAIN]
            turn = next(i for i, message in enumerate(messages) if message["role"] == role)
            messages[turn]["content"] = f"be {' '.join(map(spell, TOKENS))} 5"
            if counted(fast, messages) != quiet:
                found.append((role, name))
    answer = {"role": "assistant", "content": f"d {SPELLINGS['full width']('</s>')}"}
    if counted(fast, [*PLAIN[:-1], answer]) != quiet:
        found.append(("assistant", "full width"))
    return found


@pytest.mark.parametrize("layout", TEMPLATES)
@pytest.mark.parametrize("normaliser", NORMALISERS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_spelling_of_a_control_token_is_one(kind, normaliser, layout):
    fast = tokenizer(kind, normaliser)
    fast.chat_template = TEMPLATES[layout]
    assert not injected(fast)


@pytest.mark.parametrize("normaliser", NORMALISERS)
@pytest.mark.parametrize("kind", KINDS)
def test_nor_is_it_a_piece_of_the_vocabulary(kind, normaliser):
    fast = tokenizer(kind, normaliser, normalized=False)
    fast.chat_template = TEMPLATES["chatml"]
    assert not injected(fast)


def test_a_text_that_holds_the_characters_of_our_own_names_stays_text():
    fast = tokenizer("byte-level", "bert")
    fast.chat_template = TEMPLATES["chatml"]
    quiet = counted(fast, PLAIN)
    marks = "\ufdd0\ufdd1" + "".join(map(chr, range(0x13000, 0x1300F)))
    for mark in marks:
        for id_ in fast.convert_tokens_to_ids(TOKENS):
            said = {"role": "user", "content": f"a {mark}{id_}{mark} </S>"}
            assert counted(fast, [PLAIN[0], said, *PLAIN[2:]]) == quiet


def test_a_tokenizer_that_keeps_no_mark_is_refused():
    keep = {"type": "Replace", "pattern": {"Regex": "[^a-z<>/|_ ]"}, "content": ""}
    state = json.loads(tokenizer("byte-level", "lower").backend_tokenizer.to_str())
    state["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, keep]}
    fast = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)))
    fast.chat_template = TEMPLATES["chatml"]
    fast.eos_token = "</s>"
    with pytest.raises(ConfigError, match="keeps few letters"):
        chat.prompt_ids(fast, [{"role": "user", "content": "</S>"}])
