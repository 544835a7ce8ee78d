"""What a training stage starts from, and what it leaves: model, tokenizer, rows that fit, hand-off.

SFT starts from the recipe's model, every later stage from the published SFT policy.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from align.config import BaselineSection, LoraSection, PPOConfig, TrainerSection
from align.data import Preference, chat
from align.errors import DataError
from align.models import load as models
from align.models.adapters import check_targets
from align.runs import threads
from align.runs.contract import StageContext
from align.runs.hashing import HashCache, path_hash, value_hash

Example = TypeVar("Example")
LONGEST_SHARE = 0.5
"""Share of rows that may be longer than `max_length`; more points to a wrong setting."""


@dataclass(frozen=True)
class TrainingSetup:
    """Device, tokenizer, and where the weights lie that a stage starts from."""

    context: StageContext
    section_name: str
    path: str
    revision: str | None
    device: torch.device
    tokenizer: PreTrainedTokenizerBase

    @property
    def section(self) -> TrainerSection | BaselineSection | PPOConfig:
        """The part of the recipe that this stage reads."""
        section: TrainerSection | BaselineSection | PPOConfig = getattr(
            self.context.recipe, self.section_name
        )
        return section

    @property
    def lora(self) -> LoraSection | None:
        """The adapter that is trained; the baselines of PPO train what PPO does."""
        section = self.section
        return (
            self.context.recipe.ppo.lora if isinstance(section, BaselineSection) else section.lora
        )

    @property
    def max_length(self) -> int:
        """Tokens of prompt and answer; PPO and its baselines go as far as the reward model read.

        With an external reward model, as far as the policy has: the reward model's own limit is in
        its own tokens.
        """
        section, parents = self.section, self.context.parents
        if isinstance(section, TrainerSection):
            return section.max_length
        name = "reward" if "reward" in parents else "sft"
        return int(parents[name].manifest.config[name]["max_length"])

    @property
    def compute_dtype(self) -> torch.dtype:
        """The type that passes through the models compute in."""
        return models.find_dtype(self.context.recipe.model.dtype, self.device)

    @classmethod
    def of(cls, context: StageContext, section_name: str) -> TrainingSetup:
        """The recipe's model for SFT; the published SFT policy for every later stage."""
        # Names of gradient checkpointing that transformers renames and TRL and PEFT still use.
        hidden = ".*gradient_checkpointing.*"
        warnings.filterwarnings("ignore", message=hidden, category=FutureWarning)
        model = context.recipe.model
        parent = context.parents.get("sft")
        path, revision = (str(parent.model), None) if parent else (model.path, model.revision)
        tokenizer = models.load_tokenizer(path, revision=revision)
        device = models.find_device(model.device)
        if device.type == "cpu" and (line := threads.advice(model.threads)) is not None:
            context.tracker.note(line)
        return cls(context, section_name, path, revision, device, tokenizer)

    def load(self, task: models.Task = "causal") -> PreTrainedModel:
        """Load the weights in evaluation mode.

        Weights that are trained themselves (all of them without LoRA, the head of a reward model)
        are float32 whatever the recipe's type, which then is that of the arithmetic only: a step of
        bfloat16 weights at the usual learning rates rounds to nothing. So are a reference's beside
        them: it has to compute what the policy computes before its first step.
        """
        dtype = self.context.recipe.model.dtype
        if self.lora is None or task == "reward":
            dtype = "float32"
        kwargs: dict[str, Any] = {
            "revision": self.revision,
            "dtype": dtype,
            "device": self.device,
        }
        if task == "reward":
            pad_id = self.tokenizer.pad_token_id
            kwargs |= {"pad_id": pad_id, "seed": self.context.seed}
            model = models.load_reward_model(self.path, **kwargs)
        else:
            model = models.load_causal_lm(self.path, **kwargs)
            models.fit_embeddings(model, self.tokenizer)
        for key, lora in self._adapters():
            check_targets(model, lora, key=key)
        return model

    def _adapters(self) -> Iterator[tuple[str, LoraSection]]:
        """The adapter of this stage by its key; in SFT, the first stage, those of all to come."""
        recipe, owner = self.context.recipe, self.section_name
        if isinstance(self.section, BaselineSection):
            owner = "ppo"
        for name in type(recipe).model_fields if owner == "sft" else (owner,):
            lora = getattr(getattr(recipe, name), "lora", None)
            if lora is not None:
                yield f"{name}.lora", lora

    def adapter(self, task: models.Task = "causal") -> LoraConfig | None:
        """The adapter that TRL is to add, if the recipe asks for one."""
        return None if self.lora is None else models.lora_config(self.lora, task=task)

    def publish(self, model: PreTrainedModel | PeftModel) -> None:
        """Write `model/` and, with LoRA, `adapter/` into the stage's folder."""
        models.save(model, self.tokenizer, self.context.out, base=self.path)

    def handoff(self, **splits: Any) -> dict[str, Any]:
        """What the next stages check before they build on this one."""
        return {
            "kind": "full" if self.lora is None else "adapter",
            "base_model": path_hash(Path(self.path), HashCache())
            if Path(self.path).is_dir()
            else f"{self.path}@{self.revision}",
            "tokenizer_hash": chat.tokenizer_hash(self.tokenizer),
            "template_hash": chat.template_hash(self.tokenizer),
            "template_date": chat.template_date(self.tokenizer),
            "splits": {name: value_hash(rows) for name, rows in splits.items()},
        }


def within(
    examples: Sequence[Example], length: Callable[[Example], int], max_length: int, name: str
) -> list[Example]:
    """Drop examples longer than `max_length` and say how many: a cut answer has no stop token."""
    kept = [example for example in examples if length(example) <= max_length]
    dropped = len(examples) - len(kept)
    if dropped > LONGEST_SHARE * len(examples):
        longest = max(map(length, examples))
        raise DataError(
            f"data.{name}: {dropped} of {len(examples)} rows are longer than "
            f"max_length={max_length} tokens; set max_length={longest} to keep them all"
        )
    if dropped:
        print(f"data.{name}: dropped {dropped} rows longer than max_length={max_length} tokens")
    return kept


def encode_pairs(
    setup: TrainingSetup, pairs: Sequence[Preference], name: str
) -> tuple[list[Preference], list[dict[str, Any]]]:
    """Encode preference pairs that fit: the prompt, and each answer through its stop token.

    Returns:
        The pairs kept, and for each `prompt_ids`, `chosen_ids`, `rejected_ids` and `length`.
    """
    tokenizer = setup.tokenizer
    chat.check_rows(tokenizer, pairs)
    encoded: list[tuple[Preference, dict[str, Any]]] = []
    for pair in pairs:
        prompt = chat.prompt_ids(tokenizer, pair.prompt)
        chosen = chat.response_ids(tokenizer, pair.prompt, pair.chosen)
        rejected = chat.response_ids(tokenizer, pair.prompt, pair.rejected)
        length = len(prompt) + max(len(chosen), len(rejected))
        ids = {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
        encoded.append((pair, ids | {"length": length}))
    kept = within(encoded, lambda both: both[1]["length"], setup.max_length, name)
    return [pair for pair, _ in kept], [ids for _, ids in kept]
