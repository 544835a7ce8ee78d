"""The policy's responses, as_messages to a reward model that does not read its tokens."""

from __future__ import annotations

import pytest
import torch

from align.data import EncodedPrompt, Prompt, chat
from align.messages.errors import ConfigError
from align.ppo import train as ppo
from align.ppo.roles import SeparateRoles, SharedRoles
from align.sampling.sampler import Sample, collate_prompts
from align.scoring.retokenised import RetokenisedScorer
from tests import tiny, tiny_roles, tiny_scorers
from tests.tiny_roles import Log

KINDS = ["decoder", "encoder"]
TALKS = [
    ([{"role": "user", "content": "안녕, how are you?"}], "반갑습니다. 서울 = 5 🙂"),
    (
        [
            {"role": "system", "content": "Be <|user|> or </s> or [SEP]."},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "<|end|>[CLS]"},
        ],
        "The capital of Korea is Seoul.",
    ),
    ([{"role": "user", "content": "2 + 3?"}], "</s> [SEP] 5"),
]


def scorer(kind: str) -> RetokenisedScorer:
    return RetokenisedScorer(tiny_scorers.scorer(kind), tiny.tokenizer())


def asked() -> list[EncodedPrompt]:
    rows = [Prompt(prompt, where="prompts.jsonl") for prompt, _ in TALKS]
    return chat.encode_prompts(tiny.tokenizer(), rows)


def sampled(*, cut: int = 0):
    """The answers of TALKS as the policy's own token sequences, their last `cut` tokens missing."""
    policy = tiny.tokenizer()
    answers = [chat.response_ids(policy, prompt, answer) for prompt, answer in TALKS]
    samples = [Sample(ids[: len(ids) - cut], not cut, [0.0] * len(ids)) for ids in answers]
    return collate_prompts(asked(), samples, pad_id=0)


def make(layout: str, kind: str, **settings):
    settings = {"pad_id": 0, "stop_ids": [1], "critic": "zero"} | settings
    if layout == "separate":
        return SeparateRoles(tiny.llama(), tiny.llama(), scorer(kind), **settings)
    return SharedRoles(tiny.llama(), tiny_roles.lora(), reward_adapter=scorer(kind), **settings)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["separate", "shared"])
def test_the_score_is_that_of_plain_transformers_on_the_same_text(layout, kind):
    """P31: from the policy's ids to the ids that the reward model was trained on, and its score."""
    roles, batch = make(layout, kind), sampled()
    scorer = tiny_scorers.scorer(kind)
    scores = roles.scores(batch)
    assert scores.dtype == torch.float32
    for (prompt, answer), score in zip(TALKS, scores.tolist(), strict=True):
        trained = scorer.encode([*prompt, {"role": "assistant", "content": answer}])
        inputs = {name: torch.tensor([ids]) for name, ids in trained.items()}
        with torch.no_grad():
            assert scorer.model(**inputs).logits.item() == pytest.approx(score, abs=1e-5)
    assert scores.std() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_retold_is_what_was_said_whatever_the_padding(kind):
    """P31: prompts come with their rows, answers by decoding, both to the letter."""
    told = [[*prompt, {"role": "assistant", "content": answer}] for prompt, answer in TALKS]
    role, batch = scorer(kind), sampled()
    assert list(role.as_messages(batch)) == told
    padded = tiny_roles.widened(batch, left=3, right=2, token=77)
    assert list(role.as_messages(padded)) == told
    ended = batch.ending_with(1, torch.tensor([True, True, False]))
    assert list(role.as_messages(ended)) == told
    rows = torch.tensor([2, 0])
    assert list(role.as_messages(batch.select(rows))) == [told[2], told[0]]
    torch.testing.assert_close(role(batch.select(rows)), role(batch)[rows], rtol=1e-5, atol=1e-5)


def test_an_unfinished_response_is_told_as_far_as_it_goes():
    """Cut inside a character it ends in U+FFFD; the reward model's stop token follows."""
    role, batch = scorer("decoder"), sampled(cut=2)
    answers = [told[-1]["content"] for told in role.as_messages(batch)]
    assert answers[0].endswith("\N{REPLACEMENT CHARACTER}")
    assert answers[1] == TALKS[1][1][: len(answers[1])]
    for told in role.as_messages(batch):
        ids = role.reward_model.encode(told)["input_ids"]
        assert role.reward_model.tokenizer.eos_token_id in ids[-2:]


@pytest.mark.parametrize("layout", ["separate", "shared"])
@pytest.mark.parametrize("kind", KINDS)
def test_ppo_learns_from_a_reward_model_that_reads_text(layout, kind, tmp_path):
    """P31: policy and critic move, reference and reward do not; a policy is left to save."""
    roles, batch = make(layout, kind, reward_mean=0.1, reward_std=2.0), sampled()
    before = roles.scores(batch)
    reference = roles.reference_logits(batch)
    config = tiny_roles.config(critic="zero", max_new_tokens=4)
    log = Log()
    ppo.train(roles, asked(), config, tracker=log, seed=0)
    assert torch.equal(roles.scores(batch), before)
    assert torch.equal(roles.reference_logits(batch), reference)
    assert log.rows[0]["ppo/kl/sequence"] == pytest.approx(0, abs=1e-4)
    assert log.rows[1]["ppo/kl/token_k3"] > 0
    assert all(parameter.grad is not None for parameter in roles.value_parameters)
    roles.trained_policy().save_pretrained(tmp_path)


@pytest.mark.parametrize("layout", ["separate", "shared"])
def test_a_critic_cannot_start_as_a_reward_model_of_other_tokens(layout):
    with pytest.raises(ConfigError, match=r"critic=reward: .*use ppo\.critic=head, or zero"):
        make(layout, "decoder", critic="reward")


def test_equal_ids_are_scored_by_their_own_messages():
    """Two conversations that a policy's template writes alike are two to a reward model."""
    ids, kind = [5, 6], "decoder"
    prompts = [EncodedPrompt(ids, [{"role": "user", "content": text}]) for text in ("2", "How?")]
    samples = [Sample([40, 1], True, [0.0] * 2)] * 2
    role = scorer(kind)
    batch = collate_prompts(prompts, samples, pad_id=0)
    assert [told[0]["content"] for told in role.as_messages(batch)] == ["2", "How?"]
    one, other = role(batch).tolist()
    assert abs(one - other) > 1e-3
