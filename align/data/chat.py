"""Messages to token ids: the one place where text becomes tokens, for every stage.

SFT, reward training, DPO, PPO and evaluation all call these functions, so that

    encode(messages) == prompt_ids(messages[:-1]) + response tokens + stop token

holds exactly: the policy is trained on the very prompt tokens it will sample from, and the reward
model reads its score at the same stop token in training and in PPO. Whatever a template writes
after its stop token (the newline of `<|im_end|>\n`) is left out.

The ids are those of plain `apply_chat_template`, of prompt and answer in one piece. Where a token
would reach over the border between them, no such token can be sampled: the answer's text is then
encoded as what goes on after the prompt's tokens.

Only the chat template writes control tokens. The same characters inside a message are ordinary
text and become ordinary tokens: a user cannot end a turn or speak as another role.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from align.data.encoding import Ids, encode_text
from align.data.rendering import (
    TEMPLATE_DATE,
    Rendered,
    chat_template,
    render,
    vocabulary_key,
    writes_date,
)
from align.data.rows import EncodedPrompt, Instruction, Message, Preference, Prompt
from align.messages import counted, say
from align.messages.errors import ConfigError, DataError

_PROBE = "probe"


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> Ids:
    """Encode a conversation up to the point where the assistant speaks next."""
    return encode_text(tokenizer, render(tokenizer, messages, generation_prompt=True))


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, rows: Iterable[Prompt]
) -> list[EncodedPrompt]:
    """Each row as the record that goes from here to the score."""
    return [
        EncodedPrompt(prompt_ids(tokenizer, row.messages), row.messages, row.checks)
        for row in counted(rows, say("encoding"))
    ]


def response_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: Sequence[Message], response: str
) -> Ids:
    """Encode the assistant's answer to `prompt`, from its first token through the stop token."""
    return prompt_and_responses(tokenizer, prompt, response)[1]


def prompt_and_responses(
    tokenizer: PreTrainedTokenizerBase, prompt: Sequence[Message], *responses: str
) -> list[Ids]:
    """Encode a prompt and, as `response_ids` does, each answer to it; the prompt once."""
    before = render(tokenizer, prompt, generation_prompt=True)
    ids = encode_text(tokenizer, before)
    return [ids, *(_response(tokenizer, prompt, before, ids, said) for said in responses)]


def _response(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    before: Rendered,
    prompt: Ids,
    response: str,
) -> Ids:
    answered = [*messages, {"role": "assistant", "content": response}]
    whole = render(tokenizer, answered, generation_prompt=False)
    border = len(before.text)
    if not whole.text.startswith(before.text):
        raise ConfigError(
            "the chat template renders a prompt otherwise once an answer follows: "
            "training would not see the tokens that sampling sees: {prompt!r} is not "
            "how it begins in {whole!r}; use a template whose prompt is a prefix of "
            "prompt and answer",
            prompt=before.text[-60:],
            whole=whole.text[max(0, border - 60) : border + 20],
        )
    ids = encode_text(tokenizer, whole)
    if ids[: len(prompt)] == prompt:
        ids = ids[len(prompt) :]
    else:
        rest = Rendered(whole.text[border:], whole.literals)
        ids = encode_text(tokenizer, rest, continues=True)
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
    before, answer = prompt_and_responses(tokenizer, messages[:-1], messages[-1]["content"])
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
    return encode_text(tokenizer, render(tokenizer, messages, generation_prompt=False))


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
        content = messages[turn]["content"]
        before, answer = prompt_and_responses(tokenizer, messages[:turn], content)
        sequences.append((before + answer, [False] * len(before) + [True] * len(answer)))
    return sequences


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of a response as a person reads it, and as every judge and reward model does.

    Without control tokens, without spaces at its ends, and without clean-up of those inside.
    """
    text = tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return str(text).strip()


def stop_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends an answer: the template's first control token after it, else EOS."""
    return _stop_id(tokenizer, vocabulary_key(tokenizer), chat_template(tokenizer))


@functools.lru_cache(maxsize=32)
def _stop_id(tokenizer: PreTrainedTokenizerBase, _vocabulary: Hashable, _template: str) -> int:
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": _PROBE}]
    text = render(tokenizer, messages, generation_prompt=False).text
    special = set(tokenizer.all_special_ids) | {
        token for token, added in tokenizer.added_tokens_decoder.items() if added.special
    }
    after = text.rindex(_PROBE) + len(_PROBE) if _PROBE in text else len(text)
    tail = encode_text(tokenizer, Rendered(text[after:], []))
    stop = next((token for token in tail if token in special), tokenizer.eos_token_id)
    if stop is None:
        raise ConfigError(
            "the tokenizer has no eos_token and its chat template ends an answer with no control "
            "token, so the policy could never stop; set eos_token in tokenizer_config.json"
        )
    return stop


def check_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a chat template that no stage could train with.

    It must write what is said, end an answer, and write a prompt as it will before an answer.

    Raises:
        ConfigError: in one line.
    """
    stop_id(tokenizer)
    question, answer = (
        {"role": "user", "content": "question"},
        {"role": "assistant", "content": "reply"},
    )
    for prompt in ([question], [question, answer, question]):
        response_ids(tokenizer, prompt, "reply")
        text = render(tokenizer, [*prompt, answer], generation_prompt=False).text
        for said in ("question", "reply"):
            if said not in text:
                raise ConfigError(
                    "the chat template of {tokenizer!r} leaves out what the {role} says; "
                    "choose a model whose template writes messages with the fields `role` and "
                    "`content`",
                    tokenizer=tokenizer.name_or_path,
                    role="user" if said == "question" else "assistant",
                )


def check_rows(
    tokenizer: PreTrainedTokenizerBase, rows: Iterable[Instruction | Preference | Prompt]
) -> None:
    """Refuse rows whose order of roles the chat template does not take.

    One row of each order is rendered: a template that refuses (no system message, no two users in
    a row) does so by the roles.

    Raises:
        DataError: with the place of the first such row.
    """
    seen = set()
    for row in rows:
        roles = tuple(message["role"] for message in row.prompt)
        if roles in seen:
            continue
        seen.add(roles)
        try:
            render(tokenizer, row.prompt, generation_prompt=True)
        except ConfigError as error:
            raise DataError("{where}: {error}", where=row.where, error=error) from error


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
    return hashlib.sha256(chat_template(tokenizer).encode()).hexdigest()


def template_date(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The date that the template writes as today's, if it writes one."""
    return TEMPLATE_DATE.date().isoformat() if writes_date(tokenizer) else None
