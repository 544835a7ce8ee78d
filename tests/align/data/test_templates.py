"""Any base gets a chat template; a template finds its control tokens, and can end at its stop."""

from __future__ import annotations

import copy

import pytest

from align.config.sources import TEMPLATES
from align.data import chat
from align.data.templates import control_ids, ending_at_stop, give_template
from align.messages.errors import ConfigError
from tests import tiny
from tests.tiny_tokenizers import KINDS, LAYOUTS
from tests.tiny_tokenizers import tokenizer as of_kind

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "안녕"}
REPLY = {"role": "assistant", "content": "안녕하세요."}
NEW = {
    "plain": (),
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "mistral": (),
}
EXPECTED = {
    "plain": (
        "System: Be brief.\n\nUser: 안녕\n\nAssistant: 안녕하세요.<|end|>\n\n"
        "User: 안녕\n\nAssistant:"
    ),
    "chatml": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n안녕<|im_end|>\n"
        "<|im_start|>assistant\n안녕하세요.<|im_end|>\n<|im_start|>user\n안녕<|im_end|>\n"
        "<|im_start|>assistant\n"
    ),
    "llama3": (
        "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n안녕<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n안녕하세요.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n안녕<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "gemma": (
        "<start_of_turn>user\nBe brief.\n\n안녕<end_of_turn>\n"
        "<start_of_turn>model\n안녕하세요.<end_of_turn>\n<start_of_turn>user\n안녕<end_of_turn>\n"
        "<start_of_turn>model\n"
    ),
    "mistral": ("[INST] Be brief.\n\n안녕 [/INST] 안녕하세요.<|end|>[INST] 안녕 [/INST]"),
}


def base(template=None):
    """A tokenizer that is this test's own; of a base without a template, if none is given."""
    tokenizer = copy.deepcopy(tiny.tokenizer())
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_template_by_name_writes_its_documented_format_and_adds_its_tokens(name):
    tokenizer = base()
    assert give_template(tokenizer, name) == (name, NEW[name])
    ids = chat.prompt_ids(tokenizer, [SYSTEM, USER, REPLY, USER])
    assert tokenizer.decode(ids) == EXPECTED[name]
    stop = NEW[name][-1] if NEW[name] else "<|end|>"
    assert tokenizer.convert_ids_to_tokens(chat.stop_id(tokenizer)) == stop
    chat.check_template(tokenizer)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_prompts_are_prefixes_and_answers_come_back_by_every_kind_of_tokenizer(kind, name):
    tokenizer = of_kind(kind, "zephyr")
    given = give_template(tokenizer, name)
    assert given.new_tokens == NEW[name]
    messages = [SYSTEM, USER, REPLY, USER, REPLY]
    ids, _ = chat.encode(tokenizer, messages)
    prompt = chat.prompt_ids(tokenizer, messages[:-1])
    assert ids[: len(prompt)] == prompt and ids[-1] == chat.stop_id(tokenizer)
    assert chat.decode(tokenizer, ids[len(prompt) :]) == REPLY["content"]
    trained = chat.encode_answers(tokenizer, messages)
    answers = [i for one, mask in trained for i, counts in zip(one, mask, strict=True) if counts]
    assert answers == 2 * ids[len(prompt) :]
    assert set(map(tokenizer.convert_tokens_to_ids, given.new_tokens)) <= set(
        control_ids(tokenizer)
    )


def test_a_base_without_a_template_gets_plain_and_one_that_has_its_own_keeps_it():
    tokenizer = base()
    assert give_template(tokenizer, None).name == "plain"
    own = base(tiny.CHAT_TEMPLATE)
    assert give_template(own, None).name is None
    assert own.chat_template == tiny.CHAT_TEMPLATE
    assert give_template(own, "plain").name == "plain"
    assert tokenizer.chat_template == own.chat_template


def test_a_tokenizer_that_begins_every_text_with_bos_has_it_in_its_template():
    from tokenizers.processors import TemplateProcessing

    tokenizer = of_kind("metaspace-first", "zephyr")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    give_template(tokenizer, "plain")
    assert chat.prompt_ids(tokenizer, [USER]).count(1) == 1
    assert chat.prompt_ids(tokenizer, [USER])[0] == 1


def test_a_template_whose_stop_token_the_tokenizer_lacks_is_refused_or_given_its_tokens(tmp_path):
    probe = base()
    give_template(probe, "chatml")
    with pytest.raises(ConfigError, match=r"lacks \(<\|im_start\|>, <\|im_end\|>\), so it would"):
        give_template(base(probe.chat_template), None)
    file = tmp_path / "template.jinja"
    file.write_text(probe.chat_template, "utf-8")
    tokenizer = base()
    assert give_template(tokenizer, str(file)) == (str(file), NEW["chatml"])
    assert chat.decode(tokenizer, [chat.stop_id(tokenizer)]) == ""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_markers_that_are_text_on_purpose_stay_text(layout):
    """Zephyr's <|user|>: its answers end with </s>, which the tokenizer has."""
    assert give_template(of_kind("metaspace-first", layout), None).new_tokens == ()


@pytest.mark.parametrize("name", ["gemma", "mistral"])
def test_a_system_message_that_no_user_follows_is_refused_where_it_has_no_turn(name):
    tokenizer = base()
    give_template(tokenizer, name)
    with pytest.raises(ConfigError, match="a system message stands before a message of the user"):
        chat.prompt_ids(tokenizer, [USER, REPLY, SYSTEM])


def test_what_cannot_be_a_template_is_one_line(tmp_path):
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, told in (
        ("chatlm", "did you mean `chatml`"),
        (str(tmp_path / "empty"), "is empty"),
        (str(tmp_path / "binary"), "UTF-8"),
        (str(tmp_path), "give a text file"),
    ):
        with pytest.raises(ConfigError, match=told) as caught:
            give_template(base(), name)
        assert "\n" not in str(caught.value)
    tokenizer = base()
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match=r"use model\.chat_template=chatml"):
        give_template(tokenizer, None)


ENDS = {
    "newline": tiny.CHAT_TEMPLATE.replace("<|end|>", "<|end|>\n"),
    "indented": "\n  {% for m in messages %}\n{{ m.content }}<|end|>\n  {% endfor %}\n",
    "none": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
    "dated": "{{ strftime_now('%d %b %Y') }}{% for m in messages %}{{ m.content }}<|end|>\n"
    "{% endfor %}\n",
}


@pytest.mark.parametrize("template", ENDS.values(), ids=ENDS)
def test_a_template_ended_at_its_stop_writes_what_is_scored_and_else_what_it_wrote(template):
    tokenizer, ended = base(template), base()
    ended.chat_template = ending_at_stop(tokenizer)
    for messages in ([USER, REPLY], [SYSTEM, USER, REPLY, USER, REPLY]):
        ids = ended.apply_chat_template(messages)["input_ids"]
        assert ids[-1] == 1
        assert ids == chat.encode(tokenizer, messages)[0] == chat.encode(ended, messages)[0]
        before = messages[:-1]
        theirs = ended.apply_chat_template(before, add_generation_prompt=True)["input_ids"]
        assert theirs == chat.prompt_ids(tokenizer, before)


def test_a_template_that_ends_at_its_stop_is_published_as_it_is():
    assert ending_at_stop(base(tiny.CHAT_TEMPLATE)) == tiny.CHAT_TEMPLATE
