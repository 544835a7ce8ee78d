"""An evaluation set on a tiny model: what the judges are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from align.config import EvaluateConfig
from align.data import Prompt
from align.data.chat import decode, prompt_ids
from align.data.rows import Message
from align.evaluation.evaluation_set import EvaluationSet, Responses, written
from align.sampling.sampler import Sample
from align.scoring.reward_model import Conversation
from tests import tiny

CHECKS = [{"kind": "contains_any", "values": ["Seoul"], "core": True}]
STOP = 1


def evaluation_set(**settings: int) -> EvaluationSet:
    tokenizer = tiny.tokenizer()
    prompts = [
        Prompt([{"role": "user", "content": "Capital of Korea?"}], "rows:1", CHECKS, {"id": "a"}),
        Prompt([{"role": "user", "content": "안녕"}], "rows:2", [], {}),
    ]
    ids = [prompt_ids(tokenizer, prompt.messages) for prompt in prompts]
    config = EvaluateConfig(samples_per_prompt=3, max_new_tokens=6, **settings)
    return EvaluationSet(prompts, ids, 0, tokenizer, config, seed=0)


def test_the_judge_reads_the_answer_without_its_stop_token() -> None:
    ids = tiny.tokenizer()("Seoul").input_ids
    assert Sample([*ids, STOP], True, []).content == ids
    assert Sample(ids, False, []).content == ids
    judged = evaluation_set().responses([[([*ids, STOP], True)], [([*ids, STOP], True)]])
    assert judged.texts == [["Seoul"], ["Seoul"]]
    assert judged.gold is not None and judged.gold[0] == [1.0]
    assert judged.gold[1][0] != judged.gold[1][0]  # NaN: the second prompt has no checks


def test_the_judge_reads_the_text_that_the_reward_model_and_the_probe_read() -> None:
    """No control token, whichever stop ended it and whatever was sampled before; no outer space."""
    tokenizer, evaluated = tiny.tokenizer(), evaluation_set()
    ids = tokenizer(" Seoul ,").input_ids
    samples = [Sample([2, *ids, 3, 4], True, []), Sample([*ids, STOP, *ids], False, [])]
    judged = evaluated.responses(written([[sample] for sample in samples]))
    assert judged.texts == [["Seoul ,"], ["Seoul , Seoul ,"]]
    read = [one.messages[-1]["content"] for one in evaluated._conversations(judged)]
    assert [[text] for text in read] == judged.texts
    assert read == [decode(tokenizer, sample.content) for sample in samples]


class By:
    """A reward model that is a function: all that an evaluation asks of one."""

    name = "by"
    limit: int | None = None

    def __init__(self, function: Callable[[Sequence[Conversation]], list[float]]) -> None:
        self.function = function

    def fits(self, messages: Sequence[Message], *, room: int = 0) -> bool:
        return True

    def score(self, conversations: Sequence[Conversation], *, batch_size: int = 64) -> list[float]:
        return self.function(conversations)


def test_the_reward_model_reads_prompt_answer_and_stop_token() -> None:
    """At the template's own stop, where it was trained, whichever stop was sampled."""
    evaluated = evaluation_set()
    policy = tiny.llama(2)
    given = evaluated.answers(policy, policy, stop_ids=list(range(1, 300, 8)))
    generations = evaluated.judged(given)
    scored: list[list[int]] = []
    told: list[list[dict[str, str]]] = []

    def score(conversations: Sequence[Conversation]) -> list[float]:
        scored.extend(one.ids for one in conversations)
        told.extend(one.messages for one in conversations)
        return [float(len(one.ids)) for one in conversations]

    for responses in generations:
        responses.reward = evaluated.rewards(responses, By(score))
    samples = [sample for its in generations.sampled.samples for sample in its]
    assert {sample.finished for sample in samples} == {True, False}
    prompts = [ids for ids in evaluated.ids for _ in range(3)]
    ends = [[STOP] if sample.finished else [] for sample in samples]
    assert any(s.response[-1] != STOP for s in samples if s.finished)
    assert scored[:6] == [p + s.content + e for p, s, e in zip(prompts, samples, ends, strict=True)]
    assert [messages[:-1] for messages in told[:6:3]] == [
        prompt.messages for prompt in evaluated.prompts
    ]
    assert told[4][-1]["content"] == decode(evaluated.tokenizer, samples[4].response)
    assert generations.sampled.reward is not None
    assert generations.sampled.reward[1][2] == len(scored[5])


def test_numbers_are_those_of_the_answers() -> None:
    answers = [[Sample([5, 6, STOP], True, []), Sample([5, 6], False, [])]]
    found = Responses(answers, [["x", "y"]], [[0.5, 1.0]], [[2.0]], [[0.1, 0.2]]).numbers()
    assert found.length.tolist() == [[3.0, 2.0]]
    assert found.stopped.tolist() == [[1.0, 0.0]]
    assert found.ids == [[5, 6], [5, 6]]
    assert found.kl is not None and found.kl.tolist() == [[2.0]]


def test_kl_is_measured_on_as_many_first_samples_as_are_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("align.evaluation.evaluation_set.KL_ANSWERS", 4)
    evaluated = evaluation_set()
    given = evaluated.judged(evaluated.answers(tiny.llama(2), tiny.llama(3), stop_ids=[STOP]))
    assert given.sampled.kl is not None
    assert [len(its) for its in given.sampled.kl] == [2, 2]
    assert all(nats > 0 for its in given.sampled.kl for nats in its)


def test_best_of_one_hands_in_the_samples_of_sft() -> None:
    sft, stops = tiny.llama(2), list(range(1, 300, 8))
    paper = evaluation_set(best_of_n=1)
    given = paper.judged(paper.answers(sft, sft, stop_ids=stops))
    pool = paper.responses(paper.drawn(sft, stop_ids=stops))
    pool.reward = paper.rewards(pool, By(lambda shown: [float(len(one.ids)) for one in shown]))
    assert pool.best_of(1).samples == given.sampled.samples
    assert pool.best_of(1).gold[0] == given.sampled.gold[0]
    assert pool.best_of(1).kl_bound == 0.0


def test_best_of_n_hands_in_what_the_reward_model_likes_best_of_each_n() -> None:
    sft, stops = tiny.llama(2), list(range(1, 300, 8))
    paper = evaluation_set(best_of_n=4)
    pool = paper.responses(paper.drawn(sft, stop_ids=stops))
    pool.reward = paper.rewards(pool, By(lambda shown: [float(sum(one.ids)) for one in shown]))
    picked = pool.best_of(4)
    assert picked.reward is not None and pool.reward is not None
    for p, its in enumerate(pool.reward):
        assert len(its) == 12
        assert picked.reward[p] == [max(its[s : s + 4]) for s in (0, 4, 8)]
        for s, answer in enumerate(picked.samples[p]):
            index = 4 * s + its[4 * s : 4 * s + 4].index(picked.reward[p][s])
            assert answer == pool.samples[p][index]
            assert picked.texts[p][s] == pool.texts[p][index]
    numbers = picked.numbers()
    assert numbers.kl is None and numbers.kl_bound == pytest.approx(1.386294 - 0.75, abs=1e-6)
    assert "kl_sequence" not in picked.means()
