"""Small tokenizers of the kinds that models have, and the layouts of their chat templates."""

from __future__ import annotations

import functools
import json
import random
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.tiny import byte_level_bpe

TEXT = [
    "Four score and seven years ago, hello how are you? Fine, thank you.",
    "[INST] question [/INST] answer <<SYS>> system <</SYS>> user assistant",
    "안녕하세요. 반갑습니다. 한국의 수도는 서울입니다. 감사합니다.",
    "the a/b (x) [y] 2 + 3 = 5; #1 \n\n - list",
]
SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' }}"
    "{% if loop.first and system is defined %}"
    "{{ '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' }}{% endif %}"
    "{{ m['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL_1 = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}{{ m['content'] + eos_token + ' ' }}"
    "{% elif m['role'] == 'system' %}{{ '[INST] ' + m['content'] + '\\n' }}"
    "{% elif loop.index0 and messages[loop.index0 - 1]['role'] == 'system' %}"
    "{{ m['content'] + ' [/INST]' }}"
    "{% else %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}\n{% endif %}"
)
LAYOUTS = {"llama-2": LLAMA_2, "mistral-1": MISTRAL_1, "zephyr": ZEPHYR}
KINDS = ["metaspace-first", "metaspace-always", "prepend", "byte-level", "unigram"]


@functools.cache
def backend(kind: str) -> str:
    """A tokenizer as JSON: how Llama's newer and older files say it, Qwen's, and T5's."""
    if kind == "byte-level":
        return byte_level_bpe(TEXT, vocab_size=420, special_tokens=SPECIAL).to_str()
    words = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always", split=True),
            pre_tokenizers.Split(Regex(r"[^\w▁]|\n"), "isolated"),
        ]
    )
    common: dict[str, Any] = {"show_progress": False, "vocab_size": 560}
    if kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        trainer: Any = trainers.UnigramTrainer(
            special_tokens=[*SPECIAL, *BYTES], unk_token="<unk>", **common
        )
    else:
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        trainer = trainers.BpeTrainer(
            special_tokens=[*SPECIAL, *BYTES], limit_alphabet=90, **common
        )
    tokenizer.pre_tokenizer = words
    tokenizer.train_from_iterator(TEXT * 3, trainer)
    marks = pre_tokenizers.Metaspace(
        prepend_scheme="first" if kind == "metaspace-first" else "always", split=False
    )
    if kind == "prepend":
        steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = None if kind == "prepend" else marks
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = state["added_tokens"][: len(SPECIAL)]  # bytes are pieces, not added
    state["model"]["byte_fallback"] = True
    return json.dumps(state)


def tokenizer(kind: str, layout: str) -> PreTrainedTokenizerFast:
    fast = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(backend(kind)),
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
    )
    fast.chat_template = LAYOUTS[layout]
    return fast


PIECES = [
    *("Four", "four score", " leading", "trailing ", "  two  spaces ", "(x) [y]", "a/b", "5"),
    *(
        "안녕하세요",
        "한국의 수도는 서울입니다.",
        "값",
        "뷁",
        "감사합니다",
        "\n",
        "\n\n- list",
        "\t",
    ),
    *("🙂", "👩‍👩‍👧", "é", "”quoted“", "#1", "…", "한글", "<0x0A>", "▁", "[INST]", "<|user|>"),
]


def conversations(count: int = 200) -> list[list[dict[str, str]]]:
    """Korean and English, one to three turns, with and without a system message."""
    random_ = random.Random(0)

    def said() -> str:
        return "".join(random_.choice(PIECES) for _ in range(random_.randint(1, 5)))

    talks = []
    for index in range(count):
        messages = [{"role": "system", "content": said()}] if index % 3 == 0 else []
        for _ in range(random_.randint(1, 3)):
            messages.append({"role": "user", "content": said()})
            messages.append({"role": "assistant", "content": said()})
        talks.append(messages)
    return talks
