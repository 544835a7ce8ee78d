"""Held-out preference pairs as tokens, and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from align.config import DataSource
from align.data import Preference, load_preferences, prompt_key, with_unseen_prompts
from align.data.chat import encode, prompt_ids
from align.evaluation.evaluation_set import Fits, warn
from align.evaluation.reward_card import ScoredPair
from align.messages import counted, say
from align.scoring.reward_model import Conversation, RewardModel

WHY = {"trained_on": "trained on", "too_long": "too long"}
"""Why pairs are left out."""


class Pair(NamedTuple):
    """One held-out pair as tokens."""

    row: Preference
    chosen: list[int]
    rejected: list[int]
    prompt_length: int


class Pairs(NamedTuple):
    kept: list[Pair]
    left_out: dict[str, int]


def read_pairs(
    source: DataSource | None,
    trained: DataSource | None,
    tokenizer: PreTrainedTokenizerBase,
    *,
    limit: int | None,
    fits: Fits | None = None,
) -> Pairs:
    """Read the held-out pairs.

    Pairs whose prompt was trained on, and those that would not fit into the model, are left out
    and counted.
    """
    if source is None:
        return Pairs([], {"trained_on": 0, "too_long": 0})
    rows = load_preferences(source, warn=warn)
    new = with_unseen_prompts(rows, load_preferences(trained)) if trained is not None else rows
    pairs = []
    for row in counted(new, say("encoding")):
        chosen, rejected = (
            encode(tokenizer, [*row.prompt, {"role": "assistant", "content": text}])[0]
            for text in (row.chosen, row.rejected)
        )
        pairs.append(Pair(row, chosen, rejected, len(prompt_ids(tokenizer, row.prompt))))
    room = float("inf") if limit is None else limit
    kept = [
        pair
        for pair in pairs
        if all(
            len(r.ids) <= room and (fits is None or fits(r.messages)) for r in conversations(pair)
        )
    ]
    left_out = {"trained_on": len(rows) - len(new), "too_long": len(pairs) - len(kept)}
    for why, count in left_out.items():
        if count:
            warn(
                say(
                    "{path}: {count} of {rows} pairs left out: {why}",
                    path=source.path,
                    count=count,
                    rows=len(rows),
                    why=say(WHY[why]),
                )
            )
    return Pairs(kept, left_out)


def score_pairs(
    pairs: Sequence[Pair], reward_model: RewardModel, *, batch_size: int = 64
) -> list[ScoredPair]:
    """Score both answers of every pair."""
    chosen, rejected = (
        reward_model.score(side, batch_size=batch_size)
        for side in zip(*map(conversations, pairs), strict=True)
    )
    return [
        ScoredPair(
            prompt=prompt_key(pair.row.prompt),
            chosen=better,
            rejected=worse,
            chosen_length=len(pair.chosen) - pair.prompt_length,
            rejected_length=len(pair.rejected) - pair.prompt_length,
            family=pair.row.extra.get("family"),
            bayes=pair.row.extra.get("bayes"),
        )
        for pair, better, worse in zip(pairs, chosen, rejected, strict=True)
    ]


def conversations(pair: Pair) -> tuple[Conversation, Conversation]:
    """The chosen answer and the rejected one, as what a judge is given."""
    texts = (pair.row.chosen, pair.row.rejected)
    better, worse = ([*pair.row.prompt, {"role": "assistant", "content": t}] for t in texts)
    return Conversation(pair.chosen, better), Conversation(pair.rejected, worse)
