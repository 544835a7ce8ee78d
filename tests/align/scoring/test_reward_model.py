"""A reward model is what scores conversations: of tokens, of text, or any function."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from align.data import EncodedPrompt, chat
from align.data.rows import Message
from align.sampling.sampler import Sample, collate_prompts
from align.scoring.retokenised import RetokenisedScorer
from align.scoring.reward_model import Conversation, RewardModel, TokenRewardModel
from tests import tiny, tiny_roles, tiny_scorers

SAID: list[Message] = [
    {"role": "user", "content": "Capital of Korea?"},
    {"role": "assistant", "content": "Seoul"},
]


class LengthJudge:
    """Likes long answers: the least that a reward model has to be."""

    name = "length"
    limit: int | None = None

    def fits(self, messages: Sequence[Message], *, room: int = 0) -> bool:
        return True

    def score(self, conversations: Sequence[Conversation], *, batch_size: int = 64) -> list[float]:
        return [float(len(one.messages[-1]["content"])) for one in conversations]


def test_the_reward_stages_model_reads_the_ids_and_not_the_text() -> None:
    model = tiny_roles.reward_model()
    conversations = [Conversation([5, 9, 1], SAID), Conversation([7, 8, 9, 10, 1], [])]
    scores = TokenRewardModel(model, pad_id=0).score(conversations, batch_size=2)
    with torch.no_grad():
        for (ids, _), score in zip(conversations, scores, strict=True):
            states = model.model(input_ids=torch.tensor([ids])).last_hidden_state
            assert (states[0, -1] @ model.score.weight[0]).item() == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_a_model_of_text_reads_the_messages_and_not_the_ids(kind: str) -> None:
    scorer = tiny_scorers.scorer(kind)
    given = [Conversation([], SAID), Conversation([1, 2, 3], SAID)]
    (expected,) = scorer.scores([SAID])
    assert scorer.score(given) == pytest.approx([expected, expected], abs=1e-6)


def test_ppo_can_be_scored_by_anything_that_scores_conversations() -> None:
    judge: RewardModel = LengthJudge()
    tokenizer = tiny.tokenizer()
    prompts = [
        EncodedPrompt(chat.prompt_ids(tokenizer, SAID[:1]), SAID[:1]),
        EncodedPrompt(chat.prompt_ids(tokenizer, SAID[:1]), SAID[:1]),
    ]
    texts = ["Seoul", "It is Busan"]
    answers = [chat.response_ids(tokenizer, SAID[:1], text) for text in texts]
    samples = [Sample(ids, True, [0.0] * len(ids)) for ids in answers]
    sequences = collate_prompts(prompts, samples, pad_id=0)
    assert RetokenisedScorer(judge, tokenizer)(sequences).tolist() == [5.0, 11.0]
