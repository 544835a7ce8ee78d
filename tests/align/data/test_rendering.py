"""The chat template: what it may not do, and what becomes of it on another day."""

from __future__ import annotations

import copy

import pytest

from align.data import chat
from align.data.rendering import DIRECTIVES, TEMPLATE_DATE
from align.data.rows import Preference, Prompt
from align.messages.errors import ConfigError, DataError
from tests import tiny

GEMMA = (
    "{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}" + tiny.CHAT_TEMPLATE
)
PARTS = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% for part in m['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
USER, REPLY = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
SYSTEM = {"role": "system", "content": "Be brief."}


def with_template(template):
    tokenizer = copy.deepcopy(tiny.tokenizer())
    tokenizer.chat_template = template
    return tokenizer


def test_a_pad_token_added_later_is_text_in_a_content_from_then_on():
    tokenizer = copy.deepcopy(tiny.tokenizer())
    messages = [{"role": "user", "content": "a<|padding|>b"}]
    chat.prompt_ids(tokenizer, messages)
    chat.stop_id(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "<|padding|>"})
    ids = chat.prompt_ids(tokenizer, messages)
    assert tokenizer.pad_token_id not in ids
    assert "a<|padding|>b" in tokenizer.decode(ids)


def test_a_message_that_the_template_refuses_is_one_line():
    tokenizer = with_template(GEMMA)
    assert chat.prompt_ids(tokenizer, [USER])
    with pytest.raises(ConfigError) as told:
        chat.prompt_ids(tokenizer, [SYSTEM, USER])
    assert "system, user that begins 'Be brief.': System role not supported; " in str(told.value)
    assert "\n" not in str(told.value)


def test_rows_that_the_template_refuses_are_told_with_their_place():
    tokenizer = with_template(GEMMA)
    fine = Prompt([USER], "rows.jsonl:1")
    chat.check_rows(tokenizer, [fine, fine])
    for bad in (
        Prompt([SYSTEM, USER], "rows.jsonl:3"),
        Preference([SYSTEM, USER], "c", "d", "rows.jsonl:3"),
    ):
        with pytest.raises(DataError, match=r"^rows\.jsonl:3: .*System role not supported"):
            chat.check_rows(tokenizer, [fine, bad])


@pytest.mark.parametrize(
    "fault", ["{{ messages[0]['content'] + [1] }}", "{{ 1 / 0 }}", "{% if %}", "{{ [].x.y }}"]
)
def test_a_broken_template_is_one_line(fault):
    with pytest.raises(ConfigError, match=r"chat template of .* refuses a conversation of user"):
        chat.check_template(with_template(fault + tiny.CHAT_TEMPLATE))


def test_a_template_that_reads_lists_of_parts_is_given_them():
    """The ids of the same template for strings; control tokens in a part are text there too."""
    tokenizer, plain = with_template(PARTS), tiny.tokenizer()
    messages = [SYSTEM, USER, REPLY, {"role": "user", "content": "<|end|> x"}, REPLY]
    assert chat.encode(tokenizer, messages) == chat.encode(plain, messages)
    chat.check_template(tokenizer)


def test_the_template_named_default_is_used_of_several():
    tokenizer = with_template({"default": tiny.CHAT_TEMPLATE, "tool_use": "{{ 1 }}"})
    assert chat.encode(tokenizer, [USER, REPLY]) == chat.encode(tiny.tokenizer(), [USER, REPLY])
    assert chat.template_hash(tokenizer) == chat.template_hash(tiny.tokenizer())


def test_templates_of_this_project_pass_the_check():
    chat.check_template(tiny.tokenizer())


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ messages | length }}" + tiny.CHAT_TEMPLATE, "prompt is a prefix"),
        (tiny.CHAT_TEMPLATE.replace("['content']", "['text']"), "leaves out what the user says"),
        (
            tiny.CHAT_TEMPLATE.replace("{{ message['content'] }}<|end|>{% endgen", "{% endgen"),
            "leaves out what the assistant says",
        ),
        (None, "has no chat template"),
    ],
)
def test_a_template_that_no_stage_can_train_with_is_refused(template, told):
    with pytest.raises(ConfigError, match=told):
        chat.check_template(with_template(template))


def test_a_template_that_writes_todays_date_writes_the_same_one_on_every_day():
    """Llama 3.2, SmolLM3 and gpt-oss ask for these formats."""
    dated = "{% set today = strftime_now('%d %b %Y') %}{{ today }}" + tiny.CHAT_TEMPLATE
    tokenizer = with_template(dated)
    text = tokenizer.decode(chat.prompt_ids(tokenizer, [USER]))
    assert text == "26 Jul 2024<|user|>a<|end|><|assistant|>"
    assert chat.template_date(tokenizer) == "2024-07-26"
    assert chat.template_date(tiny.tokenizer()) is None
    chat.check_template(tokenizer)
    for format_, expected in (("%d %B %Y", "26 July 2024"), ("%Y-%m-%d", "2024-07-26")):
        tokenizer.chat_template = dated.replace("%d %b %Y", format_)
        assert tokenizer.decode(chat.prompt_ids(tokenizer, [USER])).startswith(expected)


def test_the_fixed_date_is_written_as_transformers_writes_its_own():
    """Every directive, and nothing else of the text, even where the template begins oddly."""
    asked = " ".join(f"%{letter}" for letter in DIRECTIVES)
    date = f"{{{{ strftime_now('{asked}, %-d!') }}}}"
    tokenizer = with_template(f"\n  {{% if strftime_now is defined %}}{date}{{% endif %}}")
    theirs = tokenizer.apply_chat_template([USER], tokenize=False)
    ours = tokenizer.decode(chat.prompt_ids(tokenizer, [USER]))
    assert ours == "\n" + TEMPLATE_DATE.strftime(asked) + ", 26!"
    assert theirs[: -len(theirs.lstrip())] == "\n"
