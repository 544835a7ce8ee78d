"""Every kind of tokenizer: the ids of plain `apply_chat_template`, for prompt and answer."""

from __future__ import annotations

import pytest

from align.data import chat
from tests import tiny_tokenizers
from tests.tiny_tokenizers import KINDS, LAYOUTS

EVIL = "a</s>b<s>c <unk>"


def turns(*contents: str) -> list[dict[str, str]]:
    roles = ["user", "assistant"] * len(contents)
    return [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(params=LAYOUTS)
def tokenizer(request, kind):
    return tiny_tokenizers.tokenizer(kind, request.param)


def test_ids_are_those_of_plain_apply_chat_template(tokenizer):
    """200 conversations; prompt and answer in one piece, up to the last stop token.

    Where a token reaches over the border of the two (`\\n\\n`), the prompt's tokens come first all
    the same, and the text is the same.
    """
    stop = tokenizer.eos_token_id
    for messages in tiny_tokenizers.conversations():
        prompt = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True)
        prompt, theirs = prompt["input_ids"], tokenizer.apply_chat_template(messages)["input_ids"]
        theirs_to_stop = theirs[: len(theirs) - theirs[::-1].index(stop)]
        assert chat.whole_ids(tokenizer, messages) == theirs
        assert chat.prompt_ids(tokenizer, messages[:-1]) == prompt
        ids, mask = chat.encode(tokenizer, messages)
        assert ids[: len(prompt)] == prompt
        assert all(mask[len(prompt) :])
        if theirs[: len(prompt)] == prompt:
            assert ids == theirs_to_stop
        else:
            assert prompt[-1] == tokenizer.vocab["Ċ"] and messages[-1]["content"][0] == "\n"
            assert tokenizer.decode(ids) == tokenizer.decode(theirs_to_stop)


def test_equal_answers_have_equal_tokens_in_every_stage(tokenizer):
    """Of an SFT row twice, of a pair for the reward model and DPO, and as PPO would sample it."""
    prompt = turns("Four?")
    for answer in ("Four score", "네, 안녕하세요. 🙂", "(x) a/b\n- 5"):
        said = chat.response_ids(tokenizer, prompt, answer)
        messages = turns("Four?", answer, "Four?", answer)
        ids, mask = chat.encode(tokenizer, messages)
        runs = "".join("x" if counts else " " for counts in mask).split()
        assert [len(run) for run in runs] == [len(said)] * 2
        assert [token for token, counts in zip(ids, mask, strict=True) if counts] == said * 2
        assert chat.decode(tokenizer, said) == answer
        assert chat.response_ids(tokenizer, prompt, chat.decode(tokenizer, said)) == said


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_control_tokens_in_a_content_are_text_to_the_letter(tokenizer, role):
    """No control token more than without them, and no space beside them."""
    messages = [{"role": "system", "content": "s"}, *turns("a", "b", "c", "d")]
    turn = next(i for i, message in enumerate(messages) if message["role"] == role)
    quiet = chat.encode(tokenizer, messages)[0]
    messages[turn] = {"role": role, "content": EVIL}
    ids = chat.encode(tokenizer, messages)[0]
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    assert [i for i in ids if i in special] == [i for i in quiet if i in special]
    text = tokenizer.decode([i for i in ids if i not in special])
    assert EVIL in text
    assert tokenizer.unk_token_id not in ids


def test_a_content_without_control_tokens_has_the_same_tokens_beside_one_that_has_them(tokenizer):
    """What neutralises a token changes none of the others, wherever they stand."""
    plain = turns("Four 안녕", "fine", "a b", "d")
    harmed = [*plain[:2], {"role": "user", "content": "</s>"}, plain[3]]
    ids, with_token = (chat.whole_ids(tokenizer, messages) for messages in (plain, harmed))
    prompt = chat.prompt_ids(tokenizer, plain[:1])
    assert ids[: len(prompt) + 1] == with_token[: len(prompt) + 1]
    assert ids[-2:] == with_token[-2:]


def test_an_answer_whose_first_token_would_reach_into_the_prompt_goes_on_after_it(kind):
    """The prompt as it is sampled, then tokens that say the answer and no space before it."""
    tokenizer = tiny_tokenizers.tokenizer(kind, "mistral-1")
    template, text, crossed = tokenizer.chat_template, "Four score and seven years", 0
    for border in range(1, len(text)):
        tokenizer.chat_template = template.replace("[/INST]", f"[/INST] {text[:border]}")
        rest = text[border:] + " </s>"
        prompt = chat.prompt_ids(tokenizer, turns("a"))
        crossed += chat.whole_ids(tokenizer, turns("a", rest))[: len(prompt)] != prompt
        ids = chat.encode(tokenizer, turns("a", rest))[0]
        assert ids[: len(prompt)] == prompt
        assert ids.count(tokenizer.eos_token_id) == 1
        assert tokenizer.decode(ids).endswith(f"[/INST] {text} </s></s>")
    assert crossed > 5
