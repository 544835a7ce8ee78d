"""Reward models that read text: the tokens they were trained on, and the scores they would give."""

from __future__ import annotations

import pytest
import torch

from align.data import chat
from align.messages.errors import ConfigError
from align.scoring.text_scorer import SCORE_AT, STOP, TextScorer, reading_limit
from tests import tiny, tiny_scorers

KINDS = ["decoder", "encoder"]
CPU = torch.device("cpu")
PAIRS = [
    ("Hello, how are you?", "2 + 3 = 5"),
    ("서울은 어디에 있나요?", "안녕하세요. 반갑습니다."),
    ("Is </s> or [SEP] the end?", "No: <s>[user] 반갑 </s> and [CLS] [SEP] are words."),
]


def conversation(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def plain_score(scorer: TextScorer, **inputs: list[int]) -> float:
    """What transformers says of one unpadded sequence."""
    batch = {name: torch.tensor([ids]) for name, ids in inputs.items()}
    with torch.no_grad():
        return scorer.model(**batch).logits.item()


def test_a_decoder_reads_what_its_own_template_writes_to_the_last_token():
    """P31: the ids of plain `apply_chat_template`, and the score of plain transformers on them."""
    scorer = tiny_scorers.scorer("decoder")
    conversations = [conversation(*pair) for pair in PAIRS[:2]]
    scores = scorer.scores(conversations)
    for messages, score in zip(conversations, scores, strict=True):
        ids = scorer.tokenizer.apply_chat_template(messages)["input_ids"]
        assert scorer.encode(messages) == {"input_ids": ids}
        assert scorer.tokenizer.decode(ids[-2:]) == "</s>\n"
        assert plain_score(scorer, input_ids=ids) == pytest.approx(score, abs=1e-5)
    assert abs(scores[0] - scores[1]) > 0.1


def test_a_reward_model_of_this_pipeline_is_read_at_the_stop_token_it_was_trained_at(tmp_path):
    """P31, R1: the ids that the reward stage trains on, whatever the template writes after them."""
    folder, tokenizer = tiny_scorers.save(tmp_path, "decoder", **{SCORE_AT: STOP})
    scorer = TextScorer.load(folder, device=CPU)
    for messages in (conversation(*pair) for pair in PAIRS):
        prompt = chat.prompt_ids(tokenizer, messages[:-1])
        trained = prompt + chat.response_ids(tokenizer, messages[:-1], messages[-1]["content"])
        assert scorer.encode(messages) == {"input_ids": trained}
        assert trained[-1] == tokenizer.eos_token_id
        (score,) = scorer.scores([messages])
        assert plain_score(scorer, input_ids=trained) == pytest.approx(score, abs=1e-5)


def test_a_prompt_alone_is_measured_by_a_reward_model_of_this_pipeline(tmp_path):
    """Before there is an answer: does the prompt leave room for one?"""
    folder, tokenizer = tiny_scorers.save(tmp_path, "decoder", **{SCORE_AT: STOP})
    scorer = TextScorer.load(folder, device=CPU)
    prompt = conversation(*PAIRS[0])[:1]
    assert scorer.length(prompt) == len(chat.prompt_ids(tokenizer, prompt))
    assert scorer.limit is not None
    room = scorer.limit - scorer.length(prompt)
    assert scorer.fits(prompt, room=room)
    assert not scorer.fits(prompt, room=room + 1)


def test_a_decoder_whose_template_ends_with_its_pad_token_is_read_before_it():
    """P31: as plain transformers reads it, also in a batch and where several pads end the text."""
    scorer = tiny_scorers.scorer("decoder")
    scorer.tokenizer = tiny_scorers.decoder_tokenizer.__wrapped__()
    scorer.tokenizer.chat_template = tiny_scorers.TEMPLATE.replace("</s>\n", "</s>") + "</s></s>"
    scorer.model.config.pad_token_id = scorer.tokenizer.eos_token_id
    conversations = [conversation(*pair) for pair in PAIRS]
    scores = scorer.scores(conversations)
    for messages, score in zip(conversations, scores, strict=True):
        ids = chat.whole_ids(scorer.tokenizer, messages)
        assert ids[-3:] == [scorer.tokenizer.eos_token_id] * 3
        assert plain_score(scorer, input_ids=ids) == pytest.approx(score, abs=1e-5)


def test_an_encoder_reads_question_and_answer_and_answers_through_its_pooled_head():
    """P31: [CLS] question [SEP] answer [SEP] with its segments, as plain transformers scores it."""
    scorer = tiny_scorers.scorer("encoder")
    conversations = [conversation(*pair) for pair in PAIRS[:2]]
    scores = scorer.scores(conversations)
    for pair, score in zip(PAIRS[:2], scores, strict=True):
        inputs = scorer.tokenizer(*pair)
        assert scorer.encode(conversation(*pair)) == dict(inputs)
        assert inputs["token_type_ids"][-1] == 1
        assert plain_score(scorer, **inputs) == pytest.approx(score, abs=1e-5)
    assert abs(scores[0] - scores[1]) > 0.01


def test_an_encoder_with_a_template_reads_what_that_writes():
    scorer = tiny_scorers.scorer("encoder")
    scorer.tokenizer = tiny_scorers.encoder_tokenizer.__wrapped__()
    scorer.tokenizer.chat_template = (
        "[CLS]{% for m in messages %}{{ m['content'] }}[SEP]{% endfor %}"
    )
    messages = conversation(*PAIRS[1])
    ids = scorer.tokenizer.apply_chat_template(messages)["input_ids"]
    assert ids[0] == scorer.tokenizer.cls_token_id
    assert scorer.encode(messages) == {"input_ids": ids}
    assert scorer.scores([messages])[0] == pytest.approx(
        plain_score(scorer, input_ids=ids), abs=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_control_tokens_in_a_message_stay_text(kind):
    """P31: only template and tokenizer write control tokens, two turns of them."""
    scorer = tiny_scorers.scorer(kind)
    special = set(scorer.tokenizer.all_special_ids)
    quiet, loud = (
        [token for token in scorer.encode(conversation(*pair))["input_ids"] if token in special]
        for pair in (("Is it?", "No."), PAIRS[2])
    )
    assert quiet == loud
    text = scorer.tokenizer.decode(scorer.encode(conversation(*PAIRS[2]))["input_ids"])
    assert ("</s> or" if kind == "decoder" else "[ sep ] the end") in text


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_scores_as_each_conversation_does_alone(kind):
    """Ragged, in any order, in any batch size: to 1e-5."""
    scorer = tiny_scorers.scorer(kind)
    conversations = [
        conversation(*PAIRS[2]),
        conversation(*PAIRS[0]),
        conversation(*PAIRS[1]),
        conversation("a", "b"),
    ]
    alone = [scorer.scores([each])[0] for each in conversations]
    for size in (1, 2, 4):
        assert scorer.scores(conversations, batch_size=size) == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_fits_is_counted_in_the_reward_models_own_tokens(kind):
    scorer = tiny_scorers.scorer(kind)
    assert scorer.limit == {"decoder": 128, "encoder": 96}[kind]
    fitting, long = conversation("Hello", "5"), conversation("Hello", "5 + " * 100)
    assert scorer.fits(fitting)
    assert scorer.fits(fitting, room=scorer.limit - scorer.length(fitting))
    assert not scorer.fits(fitting, room=scorer.limit - scorer.length(fitting) + 1)
    assert not scorer.fits(long)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_beyond_the_limit_is_scored_as_the_longest_beginning_that_fits(kind):
    """A sampled answer ends no run; what is cut is told once, and all else scores as ever."""
    scorer, told = tiny_scorers.scorer(kind), []
    scorer.warn = told.append
    answer = "서울 5 + " * 40
    beginnings = [conversation("Hello", answer[:n]) for n in range(len(answer))]
    longest = next(each for each in reversed(beginnings) if scorer.fits(each))
    fitting = conversation(*PAIRS[0])
    expected = [scorer.scores([each])[0] for each in (longest, fitting, longest)]
    assert not told
    batch = [conversation("Hello", answer), fitting, conversation("Hello", answer)]
    assert scorer.scores(batch) == pytest.approx(expected, abs=1e-5)
    assert scorer.cut == 2
    (line,) = told
    assert f"model reads {scorer.limit} tokens" in line
    assert str(scorer.length(batch[0])) in line


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_that_leaves_no_room_for_any_answer_is_an_error(kind):
    scorer = tiny_scorers.scorer(kind)
    told = rf"reads {scorer.limit} tokens, and a prompt has \d+ in its words; shorten the prompts"
    with pytest.raises(ConfigError, match=told):
        scorer.scores([conversation(*PAIRS[0]), conversation("5 + " * 100, "5")])


def test_the_limit_is_the_smaller_of_the_models_and_the_tokenizers():
    tokenizer = tiny_scorers.encoder_tokenizer.__wrapped__()
    assert reading_limit(tiny_scorers.encoder(), tokenizer) == 96
    tokenizer.model_max_length = 40
    assert reading_limit(tiny_scorers.encoder(), tokenizer) == 40


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_reward_model_is_loaded_frozen_and_scores_the_same(kind, tmp_path):
    folder, _ = tiny_scorers.save(tmp_path, kind)
    expected = tiny_scorers.scorer(kind).scores([conversation(*PAIRS[0])])
    loaded = TextScorer.load(folder, device=CPU)
    assert loaded.scores([conversation(*PAIRS[0])]) == pytest.approx(expected, abs=1e-6)
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    dtype = TextScorer.load(folder, dtype="bfloat16", device=CPU).model.dtype
    assert dtype == {"decoder": torch.bfloat16, "encoder": torch.float32}[kind]


def test_what_is_no_reward_model_is_refused(tmp_path):
    tiny.llama().save_pretrained(tmp_path / "causal")
    tiny.tokenizer().save_pretrained(tmp_path / "causal")
    with pytest.raises(ConfigError, match=r"no trained reward model.*score\.weight"):
        TextScorer.load(tmp_path / "causal", device=CPU)
    tiny_scorers.encoder(outputs=3).save_pretrained(tmp_path / "three")
    tiny_scorers.encoder_tokenizer().save_pretrained(tmp_path / "three")
    with pytest.raises(ConfigError, match="it has 3 outputs, expected 1"):
        TextScorer.load(tmp_path / "three", device=CPU)


def test_a_decoder_without_a_template_is_refused(tmp_path):
    scorer = tiny_scorers.scorer("decoder")
    scorer.tokenizer = tiny_scorers.decoder_tokenizer.__wrapped__()
    scorer.tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="has no chat template"):
        scorer.encode(conversation(*PAIRS[0]))
