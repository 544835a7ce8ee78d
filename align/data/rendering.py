"""Messages to text by the chat template, and what the template may not do.

Only the template writes control tokens: the same characters inside a message leave this module as
placeholders, each with its text beside, and align/data/encoding.py makes plain tokens of them.
"""

from __future__ import annotations

import functools
import re
import signal
from collections.abc import Hashable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from align.data.limits import MEMORY, OUT_OF_TIME, OutOfTimeError, Watch, in_child
from align.data.rows import Message
from align.messages import Sentence, say
from align.messages.errors import ConfigError

TEMPLATE_DATE = datetime(2024, 7, 26)
"""What a template that writes today's date (Llama 3.2, SmolLM3, gpt-oss) writes instead.

A run must see the same tokens on every day: today's date would change every prompt at midnight,
between one stage and the next. It is the date that Llama 3's template itself falls back to.
"""
DIRECTIVES = "aAbBcdDeFHIjmMpSTuUVwWxXyYZ"
"""Letters of strftime that a template may ask for; `%-d` drops the leading zero of `%d`."""
FAULTS = (
    *(TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError),
    *(RuntimeError, SyntaxError, AssertionError, NameError),
)
"""What a template, which is somebody else's program, ends in when it cannot render messages."""
LONGEST = 1_000_000
"""Characters that a template may write on its own, and SAID_AGAIN times what is said."""
SAID_AGAIN = 20
_WATCH = Watch(2.0)

# Unicode noncharacters, which no text should hold: they number the control tokens taken out of a
# content, and (align/data/encoding.py) stand around those that the template wrote.
TAKEN_OUT, WRITTEN = "\ufdd0", "\ufdd1"
_MARKS = re.compile(f"[{TAKEN_OUT}{WRITTEN}]")
PLACEHOLDER = re.compile(f"{TAKEN_OUT}(\\d+){TAKEN_OUT}")

_PROBE = "probe"


class Rendered(NamedTuple):
    """What the template wrote."""

    text: str
    literals: list[str]
    """Control tokens that stood in a content, in the order of their placeholders."""


def render(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, generation_prompt: bool
) -> Rendered:
    """Render a conversation.

    Templates with a thinking switch (Qwen3) render without thinking; others ignore the variable.

    Raises:
        ConfigError: there is no template, or it refuses these messages.
    """
    literals: list[str] = []

    def placeholder(match: re.Match[str]) -> str:
        literals.append(match.group())
        return f"{TAKEN_OUT}{len(literals) - 1}{TAKEN_OUT}"

    clean: list[dict[str, Any]] = []
    for message in messages:
        control = control_tokens(tokenizer, answer=message["role"] == "assistant")
        content = _MARKS.sub("", message["content"])
        if control is not None:
            content = control.sub(placeholder, content)
        clean.append({"role": message["role"], "content": content})
    if _reads_parts(tokenizer, chat_template(tokenizer)):
        clean = [m | {"content": [{"type": "text", "text": m["content"]}]} for m in clean]
    return Rendered(_apply(tokenizer, clean, generation_prompt=generation_prompt), literals)


def chat_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The template that renders conversations; of several the one named `default`."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not isinstance(template, str) or not template:
        raise ConfigError(
            "the tokenizer of {tokenizer!r} has no chat template; choose a model that "
            "has one, or add chat_template.jinja beside its tokenizer",
            tokenizer=tokenizer.name_or_path,
        )
    return template


def control_tokens(tokenizer: PreTrainedTokenizerBase, *, answer: bool) -> re.Pattern[str] | None:
    """What must not act as a control token inside a content.

    Special tokens everywhere; in what users and systems say also the added tokens that the template
    writes itself (`<think>`, `<tool_call>`), which an answer may well contain.
    """
    return _control_tokens(tokenizer, vocabulary_key(tokenizer), chat_template(tokenizer), answer)


def vocabulary_key(tokenizer: PreTrainedTokenizerBase) -> Hashable:
    """What changes when a tokenizer gets a new token or another special one, for caches.

    `load_tokenizer` adds a pad token after the first text was rendered.
    """
    return len(tokenizer), tuple(tokenizer.all_special_tokens)


def with_fixed_date(tokenizer: PreTrainedTokenizerBase) -> str:
    """The template, writing TEMPLATE_DATE where it asks for today's date."""
    template = chat_template(tokenizer)
    return _fixed_date() + template if writes_date(tokenizer) else template


def writes_date(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the template asks for today's date, and gets TEMPLATE_DATE."""
    return "strftime_now" in chat_template(tokenizer)


@functools.lru_cache(maxsize=64)
def _control_tokens(
    tokenizer: PreTrainedTokenizerBase, _vocabulary: Hashable, template: str, answer: bool
) -> re.Pattern[str] | None:
    contents = {
        added.content
        for added in tokenizer.added_tokens_decoder.values()
        if added.special or (not answer and added.content.strip() and added.content in template)
    }
    contents |= set(tokenizer.all_special_tokens)
    longest_first = sorted(filter(None, contents), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


@functools.lru_cache(maxsize=32)
def _reads_parts(tokenizer: PreTrainedTokenizerBase, _template: str) -> bool:
    """Whether the template reads a content as a list of parts only, as of vision models.

    Given a string, such a template fails or writes nothing of it.
    """
    parts = [{"type": "text", "text": _PROBE}]
    found = []
    for content in (_PROBE, parts):
        try:
            text = _apply(tokenizer, [{"role": "user", "content": content}], generation_prompt=True)
            found.append(_PROBE in text and "'text'" not in text)  # not the list as Python has it
        except ConfigError:
            found.append(False)
    return found == [False, True]


def _apply(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[dict[str, Any]],
    *,
    generation_prompt: bool,
) -> str:
    template = with_fixed_date(tokenizer)
    _try_out(tokenizer, template)
    try:
        return _written(tokenizer, template, messages, generation_prompt)
    except _BEYOND as error:
        raise _unbounded(tokenizer, type(error).__name__) from None
    except FAULTS as error:
        roles = ", ".join(str(message["role"]) for message in messages)
        begins = PLACEHOLDER.sub("…", str(messages[0]["content"]))[:40] if messages else ""
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            "the chat template of {tokenizer!r} refuses a conversation of {roles} that "
            "begins {begins!r}: {reason}; leave such messages out of the data, or use "
            "a model whose template takes them",
            tokenizer=tokenizer.name_or_path,
            roles=roles,
            begins=begins,
            reason=reason,
        ) from error


class _OutOfSpaceError(Exception):
    pass


_BOUNDS = {
    "OutOfTimeError": Sentence("{seconds:g} s of computing"),
    "MemoryError": Sentence("{gib} GiB of memory"),
    "_OutOfSpaceError": Sentence("{characters:,} characters"),
}
_BEYOND = (OutOfTimeError, MemoryError, _OutOfSpaceError)


def _written(
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    messages: list[dict[str, Any]],
    generation_prompt: bool,
) -> str:
    """What the template writes, within its bounds."""
    text = _WATCH.run(
        lambda: tokenizer.apply_chat_template(
            messages,  # type: ignore[arg-type]
            chat_template=template,
            tokenize=False,
            add_generation_prompt=generation_prompt,
            enable_thinking=False,
        )
    )
    text = str(text)
    text.encode("utf-8")  # half of a surrogate pair is no text
    if len(text) > LONGEST + SAID_AGAIN * sum(len(message["content"]) for message in messages):
        raise _OutOfSpaceError
    return text


def _try_out(tokenizer: PreTrainedTokenizerBase, template: str) -> None:
    """Let a template that is new here write conversations in a child that the kernel can end.

    In this process a template's Python can be ended, but not what it computes in C (`9**9**9`).

    Raises:
        ConfigError: it does not end, or asks for too much.
    """

    def write() -> str:
        for messages in _TRIALS:
            for generation_prompt in (True, False):
                try:
                    _written(tokenizer, template, messages, generation_prompt)
                except FAULTS:  # it may well refuse some
                    continue
                except _BEYOND as error:
                    return type(error).__name__
        return ""

    if template not in _TRIED_OUT:
        _TRIED_OUT[template] = in_child(write, seconds=2 * _WATCH.seconds)
    found = _TRIED_OUT[template]
    if found in OUT_OF_TIME:
        raise _unbounded(tokenizer, OutOfTimeError.__name__)
    if isinstance(found, int):
        raise ConfigError(
            "the chat template of {tokenizer!r} ends the process that tries it out ({how}); use "
            "another model, or give model.chat_template=chatml",
            tokenizer=tokenizer.name_or_path,
            how=signal.Signals(-found).name if found < 0 else say("exit code {code}", code=found),
        )
    if found:
        raise _unbounded(tokenizer, found)


_TRIED_OUT: dict[str, str | int] = {}
"""Which bound each template took no notice of, or how it ended its child; empty for a good one."""
_TURNS = [
    {"role": "user", "content": "What is 2 + 3? " * 4},
    {"role": "assistant", "content": "It is 5."},
]
_SYSTEM = {"role": "system", "content": "Be brief."}
_TRIALS: list[list[dict[str, Any]]] = [
    _TURNS[:1],
    _TURNS,
    [_SYSTEM, *_TURNS],
    [*_TURNS * 4, _TURNS[0]],
    [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
    [{"role": "user", "content": "한국의 수도는 어디입니까?\n" * 100}],
]


def _unbounded(tokenizer: PreTrainedTokenizerBase, beyond: str) -> ConfigError:
    """The error that is told for one of _BEYOND, by its name."""
    return ConfigError(
        "the chat template of {tokenizer!r} takes more than {bound} to write a conversation; "
        "use another model, or give model.chat_template=chatml",
        tokenizer=tokenizer.name_or_path,
        bound=_BOUNDS[beyond].said(seconds=_WATCH.seconds, gib=MEMORY >> 30, characters=LONGEST),
    )


@functools.cache
def _fixed_date() -> str:
    """A macro before the template that stands in for transformers' `strftime_now`.

    The line break after it is dropped by the template engine (`trim_blocks`), so that the template
    itself begins where it did.
    """
    codes = {f"%{letter}": TEMPLATE_DATE.strftime(f"%{letter}") for letter in DIRECTIVES}
    codes |= {f"%-{letter}": str(int(codes[f"%{letter}"])) for letter in "dHIjmMS"}
    steps = "".join(f"|replace('{code}', '{value}')" for code, value in codes.items())
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{steps} }}}}{{%- endmacro %}}\n"
