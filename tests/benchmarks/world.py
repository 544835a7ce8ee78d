"""The embedded world for the benchmark: what a run published, its prompts, and its gold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from align.config import DataSource, EvaluateConfig, Recipe
from align.config.recipe import load_recipe
from align.data import chat, load_prompts
from align.evaluation.evaluation_set import EvaluationSet, read_evaluation_set
from align.evaluation.generations import GenerationSettings, answer
from align.models import load as models
from align.runs.artifacts import Artifact, read_artifact
from align.scoring.rules import judge

HELD_OUT = "data/tiny/evaluation.dev.jsonl"  # the test split stays for the report
PARENTS = ("sft", "reward")
CPU = torch.device("cpu")
PROBE_SEED = 7


@dataclass(frozen=True)
class World:
    """A recipe and the artifacts that PPO starts from."""

    recipe: Recipe
    parents: dict[str, Artifact]
    tokenizer: PreTrainedTokenizerBase
    evaluation_set: EvaluationSet
    samples: int

    @classmethod
    def of(cls, job: dict[str, Any]) -> World:
        recipe = load_recipe(Path(job["recipe"]), job["overrides"])
        parents = {name: read_artifact(Path(job["run"]) / name) for name in PARENTS}
        tokenizer = models.load_tokenizer(parents["sft"].model)
        config = EvaluateConfig(max_new_tokens=recipe.ppo.max_new_tokens)
        source = DataSource(path=HELD_OUT)
        evaluation_set = read_evaluation_set(source, tokenizer, config, limit=None, seed=PROBE_SEED)
        return cls(recipe, parents, tokenizer, evaluation_set, job["samples"])

    def prompts(self) -> list[list[int]]:
        assert self.recipe.data.prompts is not None
        rows = load_prompts(self.recipe.data.prompts)
        return [chat.prompt_ids(self.tokenizer, row.messages) for row in rows]

    def policy(self) -> PreTrainedModel:
        return models.load_causal_lm(self.parents["sft"].model, dtype="float32", device=CPU)

    def reward_model(self) -> PreTrainedModel:
        """The published scorer."""
        pad_id = self.tokenizer.pad_token_id
        path = self.parents["reward"].model
        return models.load_reward_model(path, pad_id=pad_id, dtype="float32", device=CPU)

    def gold(self, policy: PreTrainedModel) -> dict[str, float]:
        """The rule judge's mean over answers to the held-out prompts, with the same randomness."""
        decoding = GenerationSettings(
            pad_id=int(self.tokenizer.pad_token_id),
            stop_ids=models.stop_ids(self.tokenizer, policy),
            max_new_tokens=self.recipe.ppo.max_new_tokens,
            batch_size=64,
            seed=PROBE_SEED,
        )
        answers = answer(
            policy, self.evaluation_set.ids, decoding, temperature=1.0, samples=self.samples
        )
        scores = [
            judge(chat.decode(self.tokenizer, sample.content), prompt.checks)
            for prompt, its in zip(self.evaluation_set.prompts, answers, strict=True)
            for sample in its
        ]
        return {"gold": fmean(scores)}
