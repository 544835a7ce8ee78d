"""The preflight of a run, and the plan that it ends with."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from align.config import Recipe
from align.config.methods import TRL
from align.messages import clock, counted, doing, say, tell
from align.messages.errors import RetryableError
from stages.preflight import model as models
from stages.preflight.rows import Rows
from stages.preflight.speed import Passes, seconds_of
from stages.preflight.work import Work, check_lengths, measure, work_of

LABEL = f"{'plan':<9}"
WEIGHT = 4
"""Bytes of a weight on the disk."""
MOMENTS = 12
"""Bytes of a weight in a checkpoint, with Adam's two moments."""
MIB = 2**20


def examine(
    recipe: Recipe, stages: Sequence[str], rows: Rows, run_dir: Path, sft: Path | None
) -> None:
    """Refuse what could not be run to its end; tell what will be done, and about how long.

    Args:
        stages: that will run, in order.
        rows: of all local files.
        sft: folder of the SFT policy where that stage need not run.
    """
    with doing(say("checking model and settings")):
        tokenizer = models.check_tokenizer(recipe, stages, rows, sft)
        models.check_settings(recipe, stages)
    with doing(say("counting tokens")):
        lengths = measure(tokenizer, rows)
        check_lengths(recipe, stages, lengths, models.limit(recipe, sft))
    with doing(say("loading the model and checking it")):
        model = models.load(recipe, tokenizer, sft)
    parameters = model.num_parameters()
    published, most = room(recipe, stages, parameters)
    free = shutil.disk_usage(run_dir).free
    if published > free:
        raise RetryableError(
            "{run_dir}: the models of this run take about {need} MiB, and {free} MiB are free on "
            "that disk; free what is short, or give runs_dir=FOLDER of another disk",
            run_dir=run_dir,
            need=_mib(published),
            free=_mib(free),
        )
    works = work_of(recipe, stages, lengths, parameters)
    passes, total = Passes(model), 0.0
    for work in counted(works, say("timing a few passes")):
        seconds = seconds_of(work, recipe, passes)
        total += seconds
        tell(LABEL + told(work, recipe, seconds))
        if work.chosen:
            settings = ", ".join(f"{key}={value}" for key, value in work.chosen.items())
            tell(
                LABEL
                + say(
                    "{stage}.trainer, chosen for {rows} rows: {settings}",
                    stage=work.stage,
                    rows=work.rows,
                    settings=settings,
                )
            )
    tell(
        LABEL
        + say(
            "in all about {time}, a guess from a few passes here and now; about {need} MiB of the "
            "{free} MiB that are free on the disk",
            time=clock(max(1, total)),
            need=_mib(most),
            free=_mib(free),
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
    if hasattr(getattr(recipe, work.stage), "max_length"):
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


def room(recipe: Recipe, stages: Sequence[str], parameters: int) -> tuple[int, int]:
    """Bytes that the published models of a run take, and with the largest checkpoint beside."""
    trained = [name for name in stages if name in TRL or name == "ppo"]
    published = len(trained) * WEIGHT * parameters
    full = [
        name
        for name in trained
        if getattr(getattr(recipe, name), "lora", None) is None
        and not (name in ("rloo", "grpo") and recipe.ppo.lora is not None)
    ]
    roles = max((2 if name == "ppo" else 1 for name in full), default=0)
    return published, published + roles * MOMENTS * parameters


def _mib(count: int) -> str:
    return f"{-(-count // MIB):,}"
