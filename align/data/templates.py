"""Chat templates by name, for base models without one, and what any template needs of a tokenizer.

The formats are the documented ones; a beginning-of-sequence token is written where the tokenizer
puts one before every text, since the base was trained so. All are prefix-preserving: a prompt is
written as it will be before an answer.

`plain` has no control token but the tokenizer's own end-of-sequence token: nothing has to be learnt
for it. Its roles are words, so a user who writes "Assistant:" is not told from the template.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from transformers import AddedToken, PreTrainedTokenizerBase

from align.config.section import suggest
from align.config.sources import TEMPLATES
from align.data.chat import stop_id
from align.data.encoding import encode_text
from align.data.rendering import LONGEST, Rendered, render, with_fixed_date
from align.data.rows import Message
from align.messages.errors import ConfigError

DEFAULT = "plain"
"""For a model that has no template."""

# A system message goes in front of the user's, in the same turn.
_BEFORE_A_USER = (
    "{% if loop.last or loop.nextitem['role'] != 'user' %}"
    "{{ raise_exception('a system message stands before a message of the user only') }}{% endif %}"
)
_TEXTS = {
    "plain": (
        "{% for message in messages %}"
        "{% if message['role'] == 'assistant' %}"
        "{{ 'Assistant: ' + message['content'] + eos_token + '\\n\\n' }}"
        "{% else %}"
        "{{ message['role'] | capitalize + ': ' + message['content'] + '\\n\\n' }}"
        "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    ),
    "chatml": (
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "llama3": (
        "{% for message in messages %}"
        "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'"
        " + message['content'] + '<|eot_id|>' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
    "gemma": (
        "{% for message in messages %}"
        "{% if message['role'] == 'system' %}" + _BEFORE_A_USER + "{% endif %}"
        "{% if message['role'] == 'assistant' %}{{ '<start_of_turn>model\\n' }}"
        "{% elif loop.first or loop.previtem['role'] != 'system' %}"
        "{{ '<start_of_turn>user\\n' }}{% endif %}"
        "{{ message['content'] + ('\\n\\n' if message['role'] == 'system'"
        " else '<end_of_turn>\\n') }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
    ),
    "mistral": (
        "{% for message in messages %}"
        "{% if message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
        "{% else %}"
        "{% if loop.first or loop.previtem['role'] != 'system' %}{{ '[INST] ' }}{% endif %}"
        "{% if message['role'] == 'system' %}" + _BEFORE_A_USER + "{% endif %}"
        "{{ message['content'] + ('\\n\\n' if message['role'] == 'system' else ' [/INST]') }}"
        "{% endif %}{% endfor %}"
    ),
}
assert tuple(_TEXTS) == TEMPLATES

_CONTROL = re.compile(
    r"[<\[][|｜][^<>|｜\s]{1,40}[|｜][>\]]|<(?:start|end)_of_\w{1,20}>|</?s>|<(?:bos|eos)>"
)
"""What is written like a control token: <|im_end|>, <end_of_turn>, </s>, [|endofturn|]."""
_PROBE = "probe"


class GivenTemplate(NamedTuple):
    """What a tokenizer was given for its conversations."""

    name: str | None
    """Of the template, or its file; None: the tokenizer has its own."""
    new_tokens: tuple[str, ...] = ()
    """Control tokens that the tokenizer lacked. Nothing has trained their embeddings."""


def give_template(tokenizer: PreTrainedTokenizerBase, chosen: str | None) -> GivenTemplate:
    """Give a tokenizer the template that was chosen; or `plain`, if it has none.

    Raises:
        ConfigError: there is no such template, or the tokenizer's own template ends an answer with
            a token that the tokenizer lacks: it would become text of every answer.
    """
    if chosen is None and tokenizer.chat_template:
        if lacking := _lacking(tokenizer):
            raise ConfigError(
                "the chat template of {tokenizer!r} ends an answer with a token that its "
                "tokenizer lacks ({lacking}), so it would be text of every answer; give "
                "model.chat_template=FILE with that template to add its tokens, or the "
                "tokenizer that it belongs to",
                tokenizer=tokenizer.name_or_path,
                lacking=", ".join(lacking),
            )
        return GivenTemplate(None)
    name = chosen or DEFAULT
    begin = "{{ bos_token }}" if _puts_bos(tokenizer) else ""
    tokenizer.chat_template = begin + _TEXTS[name] if name in _TEXTS else _read(name)
    if name in ("plain", "mistral") and tokenizer.eos_token is None:
        raise ConfigError(
            "model.chat_template={name} ends an answer with the end-of-sequence token, "
            "and {tokenizer!r} has none; use model.chat_template=chatml, which adds "
            "its own, or set eos_token in tokenizer_config.json",
            name=name,
            tokenizer=tokenizer.name_or_path,
        )
    lacking = _lacking(tokenizer)
    tokenizer.add_tokens(
        [AddedToken(token, special=True, normalized=False) for token in lacking],
        special_tokens=True,
    )
    return GivenTemplate(name, lacking)


def control_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The control tokens that the template writes around what is said, the stop token included."""
    written = {token for text in _probes(tokenizer) for token in _ids(tokenizer, text)}
    special = {id_ for id_, added in tokenizer.added_tokens_decoder.items() if added.special}
    return sorted(written & (special | set(tokenizer.all_special_ids)) | {stop_id(tokenizer)})


def ending_at_stop(tokenizer: PreTrainedTokenizerBase) -> str:
    """The template, ended at the stop token where a conversation ends with the assistant.

    A sequence classifier of plain transformers reads its score at the last token. A reward model of
    this project was trained at the stop token, after which many templates write a line break.
    Nothing else changes; a template that writes today's date writes the one it was trained with.
    """
    template = with_fixed_date(tokenizer)
    stop = str(tokenizer.convert_ids_to_tokens(stop_id(tokenizer)))
    tail = _tail(_probes(tokenizer)[-1])
    if tail == stop:
        return template
    cut = f"written.rsplit({stop!r}, 1)[0]" if stop in tail else "written"
    # `set` captures what the template writes; the line break after it is dropped by the engine
    # (`trim_blocks`), as is the last one of a template, which no longer is the last here.
    return (
        "{% set written %}\n"
        f"{template.removesuffix(chr(10))}{{{{ '' }}}}{{% endset %}}"
        "{% if messages and messages[-1]['role'] == 'assistant' and not add_generation_prompt %}"
        f"{{{{ {cut} + {stop!r} }}}}{{% else %}}{{{{ written }}}}{{% endif %}}"
    )


def _read(name: str) -> str:
    try:
        if Path(name).is_file() and Path(name).stat().st_size > LONGEST:
            raise ConfigError(
                "model.chat_template={name}: more than {longest} characters; give a Jinja template",
                name=name,
                longest=f"{LONGEST:,}",
            )
        text = Path(name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            "model.chat_template={name}: no such template and no such file; {suggestion}",
            name=name,
            suggestion=suggest(name, TEMPLATES),
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "model.chat_template={name}: {error}; give a text file in UTF-8", name=name, error=error
        ) from error
    if not text.strip():
        raise ConfigError("model.chat_template={name}: is empty; give a Jinja template", name=name)
    return text


def _puts_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer(_PROBE)["input_ids"][:1] == [bos]


def _lacking(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Control tokens that the template writes and the tokenizer reads as text, in their order.

    None where an answer ends with a token that it has: the others are text on purpose then, as
    Zephyr's `<|user|>` is.
    """
    texts = _probes(tokenizer)
    end = _CONTROL.search(_tail(texts[-1]))
    if end is None or _is_token(tokenizer, end.group()):
        return ()
    found = dict.fromkeys(token for text in texts for token in _CONTROL.findall(text))
    return tuple(token for token in found if not _is_token(tokenizer, token))


def _is_token(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    id_ = tokenizer.convert_tokens_to_ids(text)
    return id_ != tokenizer.unk_token_id and _ids(tokenizer, text) == [id_]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return encode_text(tokenizer, Rendered(text, []))


def _tail(text: str) -> str:
    """What the template writes after the answer."""
    return text[text.rindex(_PROBE) + len(_PROBE) :] if _PROBE in text else ""


def _probes(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Short conversations as the template writes them; one with a system message if it takes it."""
    return [*_with_system(tokenizer), render(tokenizer, _TALK, generation_prompt=False).text]


def _with_system(tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    try:
        yield render(tokenizer, [_SYSTEM, *_TALK], generation_prompt=False).text
    except ConfigError:  # many templates know no system messages
        return


_SYSTEM: Message = {"role": "system", "content": _PROBE}
_TALK: list[Message] = [
    {"role": "user", "content": _PROBE},
    {"role": "assistant", "content": _PROBE},
]
