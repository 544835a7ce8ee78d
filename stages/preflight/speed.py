"""How long the work would take here: a few real passes, and what they are multiplied with.

A guess: what else runs on the machine comes and goes, answers get longer or shorter, and optimiser,
encoding, loading and writing are left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from align.config import Recipe, TrainerSection
from align.models.forward import trunk_of
from align.sampling.sampler import ModelSampler
from stages.preflight.work import Work

BUDGET = 0.5
"""Seconds of a measurement, about: where a pass over all rows would take longer, it is of fewer."""
SHORT, LONG = 2, 8
"""Tokens of the answers that are timed; their difference is the time of a step of sampling."""
SAMPLED_AT_ONCE = 64
LOGITS = 2**28
"""That a timed pass may hold: 1 GB in float32. The stages themselves hold fewer."""
TRUNCATED = 1.5
"""Steps of sampling for each token of a usual answer: the longest answers of a batch end it."""


class Passes:
    """Times passes through a model; the weights stay as they are."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.vocabulary: int = self.model.get_input_embeddings().weight.shape[0]
        self.known: dict[tuple[Any, ...], float] = {}

    def forward(self, rows: int, width: int) -> float:
        """Seconds of a pass without gradients."""

        def run(count: int) -> None:
            with torch.no_grad():
                self.model(input_ids=self._ids(count, width))

        return self._timed(("forward", rows, width), rows, run)

    def train(self, rows: int, width: int, *, head: bool, adapters: bool) -> float:
        """Seconds of a pass forward and backward.

        Args:
            head: whether the logits are computed; a reward model reads one state of each row.
            adapters: whether weights need no gradient: those of adapters are few.
        """
        trunk: Any = trunk_of(self.model)

        def run(count: int) -> None:
            ids = self._ids(count, width)
            if head:
                self.model(input_ids=ids, labels=ids).loss.backward()
            else:
                trunk(input_ids=ids).last_hidden_state.float().mean().backward()
            self.model.zero_grad(set_to_none=True)

        embeddings = self.model.get_input_embeddings().weight
        self.model.requires_grad_(not adapters)
        embeddings.requires_grad_(True)  # else nothing would need a gradient
        return self._timed(("train", rows, width, head, adapters), rows, run)

    def sample(self, rows: int, prompt: int, answer: int) -> float:
        """Seconds to answer so many prompts."""
        at_once = min(rows, SAMPLED_AT_ONCE)

        def run_for(steps: int) -> Callable[[int], None]:
            def run(count: int) -> None:
                sampler = ModelSampler(
                    self.model, pad_id=0, stop_ids=[-1], max_new_tokens=steps, batch_size=count
                )
                sampler.sample(self._ids(count, prompt).tolist(), generator=torch.Generator())

            return run

        short, long = (
            self._timed(("sample", at_once, prompt, steps), at_once, run_for(steps))
            for steps in (SHORT, LONG)
        )
        step = max(0.0, long - short) / (LONG - SHORT)
        return (short + (TRUNCATED * answer - SHORT) * step) * rows / at_once

    def _ids(self, rows: int, width: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        shape = (rows, max(1, width))
        return torch.randint(self.vocabulary, shape, generator=generator).to(self.model.device)

    def _timed(self, key: tuple[Any, ...], rows: int, run: Callable[[int], None]) -> float:
        """Seconds of a pass over so many rows; over more than there is time or room for, by a line.

        Args:
            key: what is timed: its kind, rows, tokens of a row, and what else it depends on.
        """
        if key not in self.known:
            self._seconds(run, 1)  # the first pass of a kind takes longer
            one = self._seconds(run, 1)
            fits = LOGITS // (self.vocabulary * max(1, key[2]))
            some = max(1, min(rows, fits, round(BUDGET / max(one, 1e-6))))
            each = max(0.0, self._seconds(run, some) - one) / (some - 1) if some > 1 else one
            self.known[key] = one + each * (rows - 1)
        return self.known[key]

    def _seconds(self, run: Callable[[int], None], rows: int) -> float:
        self._wait()
        start = time.perf_counter()
        run(rows)
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()


def seconds_of(work: Work, recipe: Recipe, passes: Passes) -> float:
    """Seconds that a stage would take."""
    stage, rows, width = work.stage, work.at_once, work.width
    count = work.steps * work.passes
    lora = recipe.lora_of(stage) is not None
    if stage == "evaluate":
        answers, prompt = work.steps, work.tokens // work.rows
        sampled = passes.sample(rows, prompt, width - prompt) * answers / rows
        return sampled + 2.5 * passes.forward(rows, width) * answers / rows  # KL, and the rewards
    if isinstance(getattr(recipe, stage), TrainerSection):
        trained = passes.train(rows, width, head=stage != "reward", adapters=lora)
        beside = {"dpo": 1, "kto": 3}.get(stage, 0)  # the reference; KTO estimates a KL too
        return count * (trained + beside * passes.forward(rows, width))
    config, prompt = recipe.ppo, work.tokens // work.rows
    sampled = passes.sample(config.rollout_batch_size, prompt, width - prompt)
    scored = (3 if stage == "ppo" else 2) * passes.forward(rows, width)
    trained = passes.train(rows, width, head=True, adapters=lora)
    if stage == "ppo":
        trained += passes.train(rows, width, head=False, adapters=lora)
    return work.steps * (sampled + work.passes * (scored + config.epochs * trained))
