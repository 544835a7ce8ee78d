"""What a stage of TRL trains with where the recipe leaves it open: chosen by rows and model.

TRL's defaults are for thousands of rows and billions of weights: three passes over forty rows are
fifteen steps, which change nothing. Here few rows are passed more often, in smaller batches, up to
a number of passes from which they would be learnt by heart. docs/own-data.md has the table and what
was measured; the recipe's own values always win.

Loads no heavy library: the plan asks as well, before anything is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from align.messages import say

BATCHES = ((200, 4), (2_000, 8), (20_000, 16))
"""(fewer rows than this, rows of an optimiser step)."""
LARGEST_BATCH = 32
ON_THE_DEVICE = 8
"""Rows that pass together where a model is LARGE; the rest of a batch is accumulated."""
LARGE = 50_000_000
"""Weights."""
WARMUP = 0.05
"""Share of the steps over which the learning rate rises."""


class Pace(NamedTuple):
    """How long and how fast a stage trains."""

    steps: int
    """Optimiser steps for which rows are passed again."""
    epochs: int
    """Passes at most."""
    rate: float
    """Highest learning rate of a model of a billion weights, all of them trained."""


PACES = {
    "sft": Pace(steps=300, epochs=4, rate=2e-5),
    "reward": Pace(steps=120, epochs=3, rate=1e-5),
    "dpo": Pace(steps=120, epochs=4, rate=2e-6),
    "kto": Pace(steps=120, epochs=4, rate=2e-6),
}
BILLION = 1e9
SHRINKS = 0.6
"""The rate falls with the size of the model to this power: 8e-4 for SFT of 2.5 million weights (as
the tiny recipe was tuned), 2e-5 for a billion (a usual start)."""
MANY, GROWS = 4_000, 0.3
"""With fewer rows than that the rate falls with their number to this power: few rows are passed
often, and at a high rate they are learnt by heart within the first passes."""
ADAPTERS = 10
"""Adapters learn at ten times the rate of all weights (Schulman 2025, "LoRA without regret")."""
HIGHEST = 2e-3
BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps")
LENGTH = ("num_train_epochs", "max_steps")


def size(model: Any) -> int:
    """Weights below the head: those of the policy and its reward model, whose heads differ."""
    return model.base_model.num_parameters()


def chosen(
    stage: str, rows: int, given: Mapping[str, Any], *, parameters: int, lora: bool
) -> dict[str, Any]:
    """Return the settings of `trainer` that are chosen because `given` has none of their kind.

    Args:
        rows: that an epoch passes over: examples of SFT, pairs, KTO's answers.
        given: the recipe's `trainer`.
        parameters: weights of the model.
        lora: whether adapters are trained.
    """
    pace, found = PACES[stage], dict[str, Any]()
    if not any(key in given for key in BATCH):
        size = next((size for fewer, size in BATCHES if rows < fewer), LARGEST_BATCH)
        at_once = min(size, ON_THE_DEVICE) if parameters > LARGE else size
        found["per_device_train_batch_size"] = at_once
        if at_once < size:
            found["gradient_accumulation_steps"] = size // at_once
    if not any(key in given for key in LENGTH):
        epoch = steps_of(rows, {**given, **found, "num_train_epochs": 1})
        found["num_train_epochs"] = min(pace.epochs, math.ceil(pace.steps / epoch))
    if "learning_rate" not in given:
        rate = pace.rate * (parameters / BILLION) ** -SHRINKS * (ADAPTERS if lora else 1)
        few = min(1.0, rows / MANY) ** GROWS
        found["learning_rate"] = float(f"{few * min(rate, HIGHEST):.1e}")
    warmup = int(WARMUP * steps_of(rows, {**given, **found}))
    if "warmup_steps" not in given and warmup:
        found["warmup_steps"] = warmup
    return found


def told(stage: str, rows: int, settings: Mapping[str, Any]) -> str:
    """One line on what was chosen."""
    return say(
        "{stage}.trainer, chosen for {rows} rows: {settings}",
        stage=stage,
        rows=rows,
        settings=", ".join(f"{key}={value}" for key, value in settings.items()),
    )


def steps_of(rows: int, trainer: Mapping[str, Any]) -> int:
    """Optimiser steps of transformers' Trainer on one device."""
    if trainer.get("max_steps", -1) > 0:
        return int(trainer["max_steps"])
    epoch = math.ceil(math.ceil(rows / batch_of(trainer)) / accumulated(trainer))
    return math.ceil(epoch * trainer.get("num_train_epochs", 3))


def batch_of(trainer: Mapping[str, Any]) -> int:
    """Rows of one pass; 8 is transformers' default."""
    return int(trainer.get("per_device_train_batch_size", 8))


def accumulated(trainer: Mapping[str, Any]) -> int:
    """Passes of one optimiser step."""
    return int(trainer.get("gradient_accumulation_steps", 1))
