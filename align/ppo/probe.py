"""The probe: does the rule judge agree that training makes the answers better?

Some prompts with checks are held back from PPO. Every few iterations the policy answers them
greedily; the judge of align/scoring/rules.py, which no reward model has seen, gives *gold*, and the
reward model the score that PPO raises. Each probe is compared, prompt by prompt, with the one that
had the best gold so far: over-optimisation is gold that falls from its best while the reward rises
(Gao 2022, arXiv:2210.10760).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from align.config import PPOConfig
from align.data import EncodedPrompt, Prompt, prompt_key
from align.ppo.roles import Roles
from align.ppo.samplers import SAMPLING_BATCH
from align.ppo.train import score
from align.sampling.sampler import ModelSampler, collate_prompts
from align.scoring.checks import check_checks
from align.scoring.rules import judge

LARGEST_SHARE = 10
"""At most one prompt in so many is held back."""


def hold_back(rows: Sequence[Prompt], count: int) -> tuple[list[Prompt], list[Prompt]]:
    """Split prompts into those to train on and up to `count` with checks to probe with.

    Chosen by the hash of the prompt, so that a prompt that occurs twice is on one side and the seed
    of a run does not matter.

    Raises:
        DataError: checks of a held-back prompt that the judge cannot use.
    """
    room = min(count, len(rows) // LARGEST_SHARE)
    groups: dict[str, list[Prompt]] = {}
    for row in rows:
        groups.setdefault(prompt_key(row.messages), []).append(row)
    held: set[str] = set()
    for key in sorted(groups):
        group = groups[key]
        if len(group) <= room and all(row.checks for row in group):
            held.add(key)
            room -= len(group)
    sides: tuple[list[Prompt], list[Prompt]] = ([], [])
    for row in rows:
        sides[prompt_key(row.messages) in held].append(row)
    for row in sides[1]:
        check_checks(row)
    return sides


class GoldProbe:
    """The policy's greedy answers to the same prompts, judged every `probe_every` iterations."""

    def __init__(
        self,
        roles: Roles,
        prompts: Sequence[EncodedPrompt],
        config: PPOConfig,
        *,
        decode: Callable[[Sequence[int]], str],
    ) -> None:
        """`decode` turns the tokens of a response, without its stop token, into its text."""
        self.roles, self.prompts, self.config, self.decode = roles, prompts, config, decode
        self.best: tuple[list[float], list[float]] | None = None
        """Gold and reward per prompt of the probe with the best gold."""

    def __call__(self, iteration: int) -> dict[str, float]:
        """Readings after the first iteration, after every n-th from there, and after the last."""
        if iteration < self.config.iterations and (iteration - 1) % self.config.probe_every:
            return {}
        gold, reward = self._answers()
        best_gold, best_reward = self.best or (gold, reward)
        changes = [now - best for now, best in zip(gold, best_gold, strict=True)]
        if self.best is None or statistics.fmean(changes) > 0:
            self.best = gold, reward
        error = statistics.stdev(changes) / len(changes) ** 0.5 if len(changes) > 1 else 0.0
        return {
            "ppo/probe/gold": statistics.fmean(gold),
            "ppo/probe/reward": statistics.fmean(reward),
            "ppo/probe/gold_change": statistics.fmean(changes),
            "ppo/probe/gold_change_error": error,
            "ppo/probe/reward_change": statistics.fmean(reward) - statistics.fmean(best_reward),
        }

    def state_dict(self) -> dict[str, Any]:
        return {"best": None if self.best is None else [list(side) for side in self.best]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        best = state["best"]
        self.best = None if best is None else (list(best[0]), list(best[1]))

    @torch.no_grad()
    def _answers(self) -> tuple[list[float], list[float]]:
        """Gold and reward of a greedy answer to each prompt."""
        roles, ids = self.roles, [prompt.ids for prompt in self.prompts]
        with roles.sampling() as model:
            sampler = ModelSampler(
                model,
                pad_id=roles.pad_id,
                stop_ids=roles.stop_ids,
                max_new_tokens=self.config.max_new_tokens,
                temperature=0.0,
                batch_size=SAMPLING_BATCH,
            )
            # A generator of its own: the responses that training samples must not notice.
            samples = sampler.sample(ids, generator=torch.Generator())
        sequences = collate_prompts(self.prompts, samples, pad_id=roles.pad_id, device=roles.device)
        scores, _ = score(roles, samples, sequences, self.config)
        gold = [
            judge(self.decode(sample.content), prompt.checks)
            for sample, prompt in zip(samples, self.prompts, strict=True)
        ]
        return gold, scores.tolist()
