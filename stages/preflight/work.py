"""How much each stage has to do: rows, tokens, optimiser steps, from the data and the recipe."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from align.config import Recipe, TrainerSection
from align.config.methods import BEST_OF_N, METHODS
from align.data import chat, spread
from stages.preflight.rows import Rows
from stages.support.by_rows import accumulated, batch_of, chosen, steps_of
from stages.support.too_long import refuse_long

MEASURED = 500
"""Rows of each file, evenly spaced, that are encoded: enough for a mean."""
DRAWS = 50
READS = {method.name: method.data for method in METHODS if method.data}
"""Key under `data` of what a stage trains on."""
SCORED = ("preferences", "preferences_heldout")
"""What the reward stage drops rows of."""
TYPICAL_ANSWER = 0.5
"""Of max_new_tokens, where no row has an answer."""


class Lengths(NamedTuple):
    """Tokens of the rows of one file."""

    rows: int
    prompt: list[int]
    whole: list[int]
    """Prompt and answer; the longer one of a pair."""
    both: list[int]
    """Of a pair the prompt twice and both answers; else as `whole`."""
    every: bool
    """Whether each row was measured, not some."""

    @property
    def answer(self) -> float:
        """Tokens of an answer, on average."""
        return fmean(w - p for w, p in zip(self.whole, self.prompt, strict=True))


class Work(NamedTuple):
    """One stage."""

    stage: str
    rows: int
    tokens: int
    """Of all rows once, as the stage reads them; of the prompts, where it samples."""
    steps: int
    """Optimiser steps; iterations of PPO; answers of an evaluation."""
    passes: int
    """Forward and backward passes of a step."""
    at_once: int
    """Rows of a pass."""
    width: int
    """Tokens of the longest row of a pass, on average."""
    chosen: dict[str, Any]
    """Settings that the recipe leaves open."""


def measure(tokenizer: PreTrainedTokenizerBase, rows: Rows) -> dict[str, Lengths]:
    """Tokens of the rows of each file."""
    return {name: _lengths(tokenizer, its) for name, its in rows.items()}


def _lengths(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Any]) -> Lengths:
    some = spread(rows, MEASURED)
    prompt, whole, both = [], [], []
    for row in some:
        said = [message["content"] for message in getattr(row, "messages", ())[len(row.prompt) :]]
        texts = (row.chosen, row.rejected) if hasattr(row, "chosen") else said
        first, *answers = map(len, chat.prompt_and_responses(tokenizer, row.prompt, *texts))
        prompt.append(first)
        whole.append(prompt[-1] + max(answers, default=0))
        both.append(max(1, len(answers)) * prompt[-1] + sum(answers))
    return Lengths(len(rows), prompt, whole, both, every=len(some) == len(rows))


def check_lengths(
    recipe: Recipe, stages: Sequence[str], lengths: dict[str, Lengths], positions: int | None
) -> None:
    """Refuse data of which a stage would drop most rows."""
    names: tuple[str, ...]
    for stage in stages:
        section = getattr(recipe, stage, None)
        if isinstance(section, TrainerSection):
            names = SCORED if stage == "reward" else (READS[stage],)
            limit, room, tokens = section.max_length, 0, "whole"
        elif READS.get(stage) == "prompts":
            judge = "sft" if recipe.ppo.reward_model else "reward"
            if judge in recipe.parents:
                continue  # its own max_length counts, which its manifest has
            names, room, tokens = ("prompts",), recipe.ppo.max_new_tokens, "prompt"
            limit = getattr(recipe, judge).max_length - room
        else:
            continue
        for name in names:
            if name in lengths and lengths[name].every:
                its = getattr(lengths[name], tokens)
                refuse_long(its, name, limit=limit, room=room, positions=positions)


def work_of(
    recipe: Recipe, stages: Sequence[str], lengths: dict[str, Lengths], parameters: int
) -> list[Work]:
    """What each stage has to do, in order; one whose rows lie on the hub is left out."""
    found = []
    for stage in stages:
        section = getattr(recipe, stage, None)
        data = "evaluation" if stage == "evaluate" else READS.get(stage)
        if data is None or data not in lengths:
            continue
        its = lengths[data]
        if isinstance(section, TrainerSection):
            found.append(_trained(stage, section, its, parameters))
        elif data == "prompts":
            found.append(_sampled(recipe, stage, its, lengths))
        else:
            found.append(_evaluated(recipe, its, lengths))
    return found


def _trained(stage: str, section: TrainerSection, its: Lengths, parameters: int) -> Work:
    kept = [n for n, w in enumerate(its.whole) if w <= section.max_length] or [0]
    rows = round(its.rows * len(kept) / len(its.whole)) * (2 if stage == "kto" else 1)
    tokens = round(fmean(its.whole[n] if stage == "kto" else its.both[n] for n in kept) * rows)
    if packed := bool(section.trainer.get("packing")):
        rows = math.ceil(tokens / section.max_length)
    given, lora = section.trainer, section.lora is not None
    found = chosen(stage, rows, given, parameters=parameters, lora=lora)
    settings = {**given, **found}
    at_once = min(rows, batch_of(settings))
    return Work(
        stage,
        rows,
        tokens,
        steps_of(rows, settings),
        min(accumulated(settings), -(-rows // at_once)),
        at_once * (2 if stage in ("reward", "dpo") else 1),
        section.max_length
        if packed
        else _width([its.whole[n] for n in kept], at_once, sorted_=_grouped(settings)),
        found,
    )


def _grouped(settings: dict[str, Any]) -> bool:
    return settings.get("train_sampling_strategy") == "group_by_length"


def _width(lengths: Sequence[int], at_once: int, *, sorted_: bool) -> int:
    """Tokens of the longest of so many rows, drawn at random; of rows of like length, the mean."""
    if sorted_:
        return round(fmean(lengths))
    draw = random.Random(0)
    return round(fmean(max(draw.choices(lengths, k=at_once)) for _ in range(DRAWS)))


def _answer(lengths: dict[str, Lengths], most: int) -> int:
    """Tokens that an answer may be expected to have: as those that are learnt from."""
    learnt = [its.answer for its in lengths.values() if its.answer > 0]
    return max(1, round(min(most, fmean(learnt) if learnt else TYPICAL_ANSWER * most)))


def _sampled(recipe: Recipe, stage: str, its: Lengths, lengths: dict[str, Lengths]) -> Work:
    config = recipe.ppo
    at_once = min(config.micro_batch_size, config.minibatch_size)
    width = round(fmean(its.prompt)) + _answer(lengths, config.max_new_tokens)
    passes = config.rollout_batch_size // at_once
    tokens = round(fmean(its.prompt) * its.rows)
    return Work(stage, its.rows, tokens, config.iterations, passes, at_once, width, {})


def _evaluated(recipe: Recipe, its: Lengths, lengths: dict[str, Lengths]) -> Work:
    config = recipe.evaluate
    prompts = min(its.rows, config.max_prompts or its.rows)
    models = [name for name in config.policies if name != BEST_OF_N]
    each = len(models) * (config.samples_per_prompt + 1)
    if BEST_OF_N in config.policies:  # drawn from SFT; its greedy answers are SFT's
        each += config.samples_per_prompt * config.best_of_n
    answers = prompts * each
    width = round(fmean(its.prompt)) + _answer(lengths, config.max_new_tokens)
    at_once = min(config.batch_size, prompts)
    tokens = round(fmean(its.prompt) * prompts)
    return Work("evaluate", prompts, tokens, answers, -(-answers // at_once), at_once, width, {})
