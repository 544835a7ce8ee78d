"""Held-out prompts, the responses of the policies to them, and what judges make of these."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from align.config import DataSource, EvaluateConfig
from align.data import Prompt
from align.data.chat import decode, prompt_ids, stop_id
from align.data.rows import Message
from align.evaluation.best_of_n import kl_bound, picks
from align.evaluation.generations import Answers, GenerationSettings, answer, kl_to_reference
from align.evaluation.summary import Scored
from align.messages import counted, say, tell
from align.messages.errors import DataError
from align.sampling.sampler import Sample
from align.scoring.checks import load_checked_prompts
from align.scoring.reward_model import Conversation, RewardModel
from align.scoring.rules import judge

KL_ANSWERS = 512
"""Answers whose KL is measured, if there are that many: whole distributions need few of them."""


Written = list[list[tuple[list[int], bool]]]
"""Answers as JSON: token ids with the stop token, and whether they ended by one, [p][s]."""

Fits = Callable[[list[Message]], bool]
"""Whether the reward model can read all of a conversation."""


@dataclass
class Responses:
    """All responses of one policy in one way of decoding, each list [p][s]."""

    samples: Answers
    texts: list[list[str]]
    gold: list[list[float]] | None
    kl: list[list[float]] | None = None
    reward: list[list[float]] | None = None
    kl_bound: float | None = None

    def numbers(self) -> Scored:
        assert self.reward is not None
        samples = self.samples
        return Scored(
            gold=None if self.gold is None else np.array(self.gold),
            reward=np.array(self.reward),
            kl=None if self.kl is None else np.array(self.kl),
            length=np.array([[float(len(one.response)) for one in its] for its in samples]),
            stopped=np.array([[float(one.finished) for one in its] for its in samples]),
            ids=[one.content for its in samples for one in its],
            kl_bound=self.kl_bound,
        )

    def best_of(self, n: int) -> Responses:
        """Of each n answers the one that the reward model likes best."""
        assert self.reward is not None
        rows = picks(self.reward, n)

        def at(table: list[list[Any]]) -> list[list[Any]]:
            return [[its[i] for i in row] for its, row in zip(table, rows, strict=True)]

        return Responses(
            at(self.samples),
            at(self.texts),
            None if self.gold is None else at(self.gold),
            reward=at(self.reward),
            kl_bound=kl_bound(n),
        )

    def means(self) -> dict[str, float]:
        """What is known before the reward model has scored them."""
        flat = [sample for its in self.samples for sample in its]
        means = {
            "length": float(np.mean([len(sample.response) for sample in flat])),
            "stop_rate": float(np.mean([sample.finished for sample in flat])),
        }
        if self.gold is not None:
            means["gold"] = float(np.nanmean(self.gold))
        if self.kl is not None:
            means["kl_sequence"] = float(np.mean(self.kl))
        return means

    def row(self, prompt: int) -> list[dict[str, Any]]:
        """The answers to one prompt, for samples.jsonl."""
        assert self.reward is not None
        row = []
        for s, sample in enumerate(self.samples[prompt]):
            gold = None if self.gold is None else self.gold[prompt][s]
            row.append(
                {
                    "text": self.texts[prompt][s],
                    "gold": None if gold is None or np.isnan(gold) else gold,
                    "reward": self.reward[prompt][s],
                    "kl": self.kl[prompt][s] if self.kl and s < len(self.kl[prompt]) else None,
                    "tokens": len(sample.response),
                    "stopped": sample.finished,
                }
            )
        return row


def written(answers: Answers) -> Written:
    return [[(one.response, one.finished) for one in its] for its in answers]


class Generations(NamedTuple):
    """What one policy answered: samples at the recipe's temperature, and greedy answers."""

    sampled: Responses
    greedy: Responses


@dataclass(frozen=True)
class EvaluationSet:
    """Prompts as every policy gets them."""

    prompts: list[Prompt]
    ids: list[list[int]]
    left_out: int
    tokenizer: PreTrainedTokenizerBase
    config: EvaluateConfig
    seed: int

    def answers(
        self, policy: PreTrainedModel, reference: PreTrainedModel, *, stop_ids: Sequence[int]
    ) -> dict[str, Any]:
        """A policy's answers, and how far it is from the reference, as JSON that can be kept."""
        config = self.config
        settings = self._settings(stop_ids)
        sampled, greedy = (
            answer(policy, self.ids, settings, temperature=t, samples=n)
            for t, n in ((config.temperature, config.samples_per_prompt), (0.0, 1))
        )
        measured = max(1, KL_ANSWERS // len(self.prompts))
        followed = [its[:measured] for its in sampled]
        if policy is reference:
            kl = [[0.0] * len(its) for its in followed]
        else:
            kl = kl_to_reference(
                policy, reference, self.ids, followed, settings, temperature=config.temperature
            )
        return {"sampled": written(sampled), "greedy": written(greedy), "kl": kl}

    def judged(self, answers: dict[str, Any]) -> Generations:
        """Answers as `answers` gave them, with what the rule judge makes of them."""
        sampled, greedy = (self.responses(answers[way]) for way in ("sampled", "greedy"))
        sampled.kl = answers["kl"]
        return Generations(sampled, greedy)

    def drawn(self, policy: PreTrainedModel, *, stop_ids: Sequence[int]) -> Written:
        """The answers that best-of-n picks from, n for each sample, as JSON that can be kept."""
        count = self.config.samples_per_prompt * self.config.best_of_n
        settings = self._settings(stop_ids)
        temperature = self.config.temperature
        return written(answer(policy, self.ids, settings, temperature=temperature, samples=count))

    def _settings(self, stop_ids: Sequence[int]) -> GenerationSettings:
        return GenerationSettings(
            pad_id=int(self.tokenizer.pad_token_id),
            stop_ids=stop_ids,
            max_new_tokens=self.config.max_new_tokens,
            batch_size=self.config.batch_size,
            seed=self.seed,
        )

    def responses(self, answers: Written) -> Responses:
        """Written answers with their texts and the opinion of the rule judge."""
        samples = [[Sample(ids, done, []) for ids, done in its] for its in answers]
        texts = [[decode(self.tokenizer, s.content) for s in its] for its in samples]
        gold = None
        if any(prompt.checks for prompt in self.prompts):
            gold = [
                [judge(text, prompt.checks) if prompt.checks else float("nan") for text in its]
                for prompt, its in zip(self.prompts, texts, strict=True)
            ]
        return Responses(samples, texts, gold)

    def rewards(self, responses: Responses, reward_model: RewardModel) -> list[list[float]]:
        """The reward of each answer, [p][s]; one that was cut is scored where it was cut."""
        conversations = list(self._conversations(responses))
        flat = iter(reward_model.score(conversations, batch_size=self.config.batch_size))
        return [[next(flat) for _ in its] for its in responses.samples]

    def _conversations(self, given: Responses) -> Iterator[Conversation]:
        stop = stop_id(self.tokenizer)  # the one that the reward model was trained at
        for prompt, ids, its, texts in zip(
            self.prompts, self.ids, given.samples, given.texts, strict=True
        ):
            for sample, text in zip(its, texts, strict=True):
                messages = [*prompt.messages, {"role": "assistant", "content": text}]
                end = [stop] if sample.finished else []
                yield Conversation(ids + sample.content + end, messages)

    def rows(self, generations: Mapping[str, Generations]) -> Iterator[dict[str, Any]]:
        """One row per prompt with all answers, for samples.jsonl."""
        for p, prompt in enumerate(self.prompts):
            known = {k: prompt.extra.get(k) for k in ("family", "language", "template", "seen")}
            yield {
                "id": str(prompt.extra.get("id", p)),
                **known,
                "prompt": prompt.messages,
                "checks": prompt.checks,
                "responses": {
                    name: {"sampled": given.sampled.row(p), "greedy": given.greedy.row(p)[0]}
                    for name, given in generations.items()
                },
            }


def read_evaluation_set(
    source: DataSource,
    tokenizer: PreTrainedTokenizerBase,
    config: EvaluateConfig,
    *,
    limit: int | None,
    seed: int,
    fits: Fits | None = None,
) -> EvaluationSet:
    """Read the prompts; those that would not fit into a model are left out and counted.

    With fewer `max_prompts` than rows the prompts are drawn by the seed and kept in their order.
    """
    prompts = load_checked_prompts(source, warn=warn)
    if config.max_prompts is not None and config.max_prompts < len(prompts):
        drawn = random.Random(seed).sample(range(len(prompts)), config.max_prompts)
        prompts = [prompts[row] for row in sorted(drawn)]
    encoded = [
        (prompt, prompt_ids(tokenizer, prompt.messages))
        for prompt in counted(prompts, say("encoding"))
    ]
    room = float("inf") if limit is None else limit - config.max_new_tokens
    kept = [
        (prompt, ids)
        for prompt, ids in encoded
        if len(ids) <= room and (fits is None or fits(prompt.messages))
    ]
    if not kept:
        raise DataError(
            "{path}: no prompt fits into the policy ({limit} positions) and the reward "
            "model beside evaluate.max_new_tokens={max_new_tokens}; lower it or "
            "shorten the prompts",
            path=source.path,
            limit=limit,
            max_new_tokens=config.max_new_tokens,
        )
    left_out = len(encoded) - len(kept)
    if left_out:
        warn(
            say(
                "{path}: {left_out} of {rows} prompts are too long, left out",
                path=source.path,
                left_out=left_out,
                rows=len(encoded),
            )
        )
    return EvaluationSet(
        [p for p, _ in kept], [i for _, i in kept], left_out, tokenizer, config, seed
    )


def warn(line: str) -> None:
    tell(say("warning: {line}", line=line))
