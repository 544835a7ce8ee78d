"""Messages to token ids: the one place where text becomes tokens, for every stage.

SFT, reward training, DPO, PPO and evaluation all call these functions, so that

    encode(messages) == prompt_ids(messages[:-1]) + response tokens + stop token

holds exactly: the policy is trained on the very prompt tokens it will sample from, and the reward
model reads its score at the same stop token in training and in PPO. Whatever a template writes
after its stop token (the newline of `<|im_end|>\\n`) is left out.

Only the chat template writes control tokens. The same characters inside a message are ordinary
text and become ordinary tokens: a user cannot end a turn or speak as another role.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from align.data.rows import Message
from align.errors import ConfigError

Ids = list[int]

_PROBE = "probe"


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> Ids:
    """Encode a conversation up to the point where the assistant speaks next."""
    text, literals = _render(tokenizer, messages, generation_prompt=True)
    return _tokens(tokenizer, text, literals)


def response_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: Sequence[Message], response: str
) -> Ids:
    """Encode the assistant's answer to `prompt`, from its first token through the stop token."""
    before, _ = _render(tokenizer, prompt, generation_prompt=True)
    messages = [*prompt, {"role": "assistant", "content": response}]
    text, literals = _render(tokenizer, messages, generation_prompt=False)
    if not text.startswith(before):
        raise ConfigError(
            "the chat template renders a prompt otherwise once an answer follows: training would "
            f"not see the tokens that sampling sees: {before[-60:]!r} is not how it begins in "
            f"{text[max(0, len(before) - 60) : len(before) + 20]!r}; "
            "use a template whose prompt is a prefix of prompt and answer"
        )
    ids = _tokens(tokenizer, text[len(before) :], literals)
    stop = stop_id(tokenizer)
    return ids[: ids.index(stop) + 1] if stop in ids else [*ids, stop]


def encode(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]
) -> tuple[Ids, list[bool]]:
    """Encode a conversation that ends with the assistant.

    Returns:
        ids: the tokens, ending with the stop token of the last answer.
        mask: True on the assistant's tokens, each answer's stop token included. An earlier answer
            counts only if the conversation up to it is encoded as it would be for sampling (some
            templates, such as Qwen3's, rewrite past answers); `encode_answers` covers those too.
    """
    before = prompt_ids(tokenizer, messages[:-1])
    answer = response_ids(tokenizer, messages[:-1], messages[-1]["content"])
    ids = before + answer
    mask = [False] * len(before) + [True] * len(answer)
    stop = stop_id(tokenizer)
    for turn, message in enumerate(messages[:-1]):
        if message["role"] != "assistant":
            continue
        earlier = prompt_ids(tokenizer, messages[:turn])
        if before[: len(earlier)] == earlier and stop in before[len(earlier) :]:
            end = before.index(stop, len(earlier)) + 1
            mask[len(earlier) : end] = [True] * (end - len(earlier))
    return ids, mask


def whole_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> Ids:
    """Encode a conversation with all that its template writes, also after the last stop token.

    So does `apply_chat_template`, and so reads a reward model that was trained elsewhere.
    """
    text, literals = _render(tokenizer, messages, generation_prompt=False)
    return _tokens(tokenizer, text, literals)


def encode_answers(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]
) -> list[tuple[Ids, list[bool]]]:
    """Encode a conversation so that every answer in it counts once.

    One sequence where the template keeps past answers as they were; otherwise one sequence for each
    answer, holding the conversation up to it as it would be sampled.
    """
    ids, mask = encode(tokenizer, messages)
    answers = [turn for turn, message in enumerate(messages) if message["role"] == "assistant"]
    counted = sum(now and not last for last, now in zip([False, *mask], mask, strict=False))
    if counted == len(answers):
        return [(ids, mask)]
    sequences = []
    for turn in answers:
        before = prompt_ids(tokenizer, messages[:turn])
        answer = response_ids(tokenizer, messages[:turn], messages[turn]["content"])
        sequences.append((before + answer, [False] * len(before) + [True] * len(answer)))
    return sequences


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of a response, without its stop token and without clean-up of spaces."""
    text = tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return str(text).strip()


def stop_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends an answer: the template's first control token after it, else EOS."""
    return _stop_id(tokenizer, tokenizer.chat_template)


@functools.lru_cache(maxsize=32)
def _stop_id(tokenizer: PreTrainedTokenizerBase, template: str | None) -> int:
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": _PROBE}]
    text, _ = _render(tokenizer, messages, generation_prompt=False)
    special = set(tokenizer.all_special_ids) | {
        token for token, added in tokenizer.added_tokens_decoder.items() if added.special
    }
    tail = _tokens(tokenizer, text[text.rindex(_PROBE) + len(_PROBE) :], [])
    stop = next((token for token in tail if token in special), tokenizer.eos_token_id)
    if stop is None:
        raise ConfigError(
            "the tokenizer has no eos_token and its chat template ends an answer with no control "
            "token, so the policy could never stop; set eos_token in tokenizer_config.json"
        )
    return stop


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Name what turns text into ids: vocabulary, merges, normalisation and special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state: dict[str, Any] = json.loads(backend.to_str()) if backend else tokenizer.get_vocab()
    for passing in ("padding", "truncation"):  # set by whoever called it last
        state.pop(passing, None)
    special = [tokenizer.eos_token, tokenizer.pad_token]
    text = json.dumps([state, special], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def template_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Name the chat template."""
    return hashlib.sha256((tokenizer.chat_template or "").encode()).hexdigest()


def _render(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, generation_prompt: bool
) -> tuple[str, list[str]]:
    """Render the template; control tokens inside a content become placeholders, listed beside.

    Templates with a thinking switch (Qwen3) render without thinking; others ignore the variable.
    """
    if not tokenizer.chat_template:
        raise ConfigError(
            f"the tokenizer of {tokenizer.name_or_path!r} has no chat template; "
            "choose a model that has one, or add chat_template.jinja beside its tokenizer"
        )
    literals: list[str] = []

    def placeholder(match: re.Match[str]) -> str:
        literals.append(match.group())
        return _PLACEHOLDER.format(len(literals) - 1)

    clean = []
    for message in messages:
        answer = message["role"] == "assistant"
        control = _control_tokens(tokenizer, tokenizer.chat_template, answer)
        content = message["content"].replace(_MARK, "")
        if control is not None:
            content = control.sub(placeholder, content)
        clean.append({"role": message["role"], "content": content})
    text = tokenizer.apply_chat_template(
        clean, tokenize=False, add_generation_prompt=generation_prompt, enable_thinking=False
    )
    return str(text), literals


# A Unicode noncharacter, which no text should hold, numbers the control tokens taken out.
_MARK = "\ufdd0"
_PLACEHOLDER = _MARK + "{}" + _MARK


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str, literals: Sequence[str]) -> Ids:
    """Encode rendered text; each placeholder becomes its literal in plain tokens.

    Without the tokenizer's warning of long texts: who asks for ids counts them.
    """
    encode = functools.partial(tokenizer.encode, add_special_tokens=False, verbose=False)
    if not literals:
        return encode(text)
    ids: Ids = []
    for position, piece in enumerate(re.split(f"{_MARK}(\\d+){_MARK}", text)):
        if position % 2 == 0:
            ids += encode(piece)
        else:  # cut in two, a control token is no longer recognised as one
            literal = literals[int(piece)]
            ids += encode(literal[0]) + encode(literal[1:])
    return ids


@functools.lru_cache(maxsize=64)
def _control_tokens(
    tokenizer: PreTrainedTokenizerBase, template: str, answer: bool
) -> re.Pattern[str] | None:
    """What must not act as a control token inside a content.

    Special tokens everywhere; in what users and systems say also the added tokens that the template
    writes itself (`<think>`, `<tool_call>`), which an answer may well contain.
    """
    contents = {
        added.content
        for added in tokenizer.added_tokens_decoder.values()
        if added.special or (not answer and added.content.strip() and added.content in template)
    }
    contents |= set(tokenizer.all_special_tokens)
    longest_first = sorted(filter(None, contents), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
