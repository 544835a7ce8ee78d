"""The preflight of a run, and the plan that it ends with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from align.config import Recipe, TrainerSection
from align.messages import clock, counted, doing, say, tell
from align.messages.errors import RetryableError
from align.runs import space
from stages.preflight import model as models
from stages.preflight.rows import Rows
from stages.preflight.speed import Passes, seconds_of
from stages.preflight.work import Work, check_lengths, measure, work_of
from stages.support import by_rows

LABEL = f"{'plan':<9}"


def examine(
    recipe: Recipe, stages: Sequence[str], rows: Rows, run_dir: Path, sft: Path | None
) -> None:
    """Refuse what could not be run to its end; tell what will be done, and about how long.

    Args:
        stages: that will run, in order.
        rows: of all local files.
        sft: folder of the SFT policy where that stage need not run.
    """
    recipe = recipe if sft is None else models.going_on(recipe, sft)
    with doing(say("checking model and settings")):
        tokenizer = models.check_tokenizer(recipe, stages, rows)
        models.check_settings(recipe, stages)
    with doing(say("counting tokens")):
        lengths = measure(tokenizer, rows)
        check_lengths(recipe, stages, lengths, models.limit(recipe))
    with doing(say("loading the model and checking it")):
        model = models.load(recipe, tokenizer)
    shapes = {name: weight.shape for name, weight in model.named_parameters()}
    room = space.of_all(space.needed(name, recipe, shapes) for name in stages)
    free = space.free_for(stages, run_dir)
    if room.least > free:
        raise RetryableError(
            "{run_dir}: the models of this run take about {need} MiB, and {free} MiB are free on "
            "that disk; free what is short, or give runs_dir=FOLDER of another disk",
            run_dir=run_dir,
            need=space.mib(room.least),
            free=space.mib(free),
        )
    works = work_of(recipe, stages, lengths, by_rows.size(model))
    passes, total = Passes(model), 0.0
    for work in counted(works, say("timing a few passes")):
        seconds = seconds_of(work, recipe, passes)
        total += seconds
        tell(LABEL + told(work, recipe, seconds))
        if work.chosen:
            tell(LABEL + by_rows.told(work.stage, work.rows, work.chosen))
    tell(
        LABEL
        + say(
            "in all about {time}, a guess from a few passes here and now; about {need} MiB of the "
            "{free} MiB that are free on the disk",
            time=clock(max(1, total)),
            need=space.mib(room.most),
            free=space.mib(free),
        )
    )


def told(work: Work, recipe: Recipe, seconds: float) -> str:
    """One line on one stage."""
    common = {
        "stage": work.stage,
        "rows": f"{work.rows:,}",
        "tokens": f"{work.tokens:,}",
        "steps": f"{work.steps:,}",
        "time": clock(max(1, seconds)),
    }
    if work.stage == "evaluate":
        return say(
            "{stage}: {rows} prompts, {tokens} tokens; {steps} answers of {policies} policies, "
            "about {time}",
            **common,
            policies=len(recipe.evaluate.policies),
        )
    if isinstance(getattr(recipe, work.stage), TrainerSection):
        pair = 2 if work.stage in ("reward", "dpo") else 1
        return say(
            "{stage}: {rows} rows, {tokens} tokens; {steps} optimiser steps of {batch} rows, about "
            "{time}",
            **common,
            batch=work.at_once * work.passes // pair,
        )
    return say(
        "{stage}: {rows} prompts, {tokens} tokens; {steps} iterations of {batch} answers, about "
        "{time}",
        **common,
        batch=recipe.ppo.rollout_batch_size,
    )
