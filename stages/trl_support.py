"""What the stages over TRL share: settings, metrics, divergence, publishing.

TRL gets token ids that we encoded (align/chat.py) and only trains. Its own tokenisation, truncation
and packing of text are never used.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
)
from transformers.trainer_callback import ProgressCallback

from align import chat, models
from align.config import LoraSection, PeerSection, PPOConfig, TrainerSection
from align.data import Preference
from align.errors import ConfigError, DataError, DivergedError
from align.hashing import HashCache, path_hash, value_hash
from stages.contract import StageContext

# Names of gradient checkpointing that transformers renames and TRL and PEFT still use.
warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)

Example = TypeVar("Example")
LONGEST_SHARE = 0.5
"""Share of rows that may be longer than `max_length`; more points to a wrong setting."""


@dataclasses.dataclass(frozen=True)
class Base:
    """What a TRL stage starts from: device, tokenizer, and where the weights lie."""

    context: StageContext
    section_name: str
    path: str
    revision: str | None
    device: torch.device
    tokenizer: PreTrainedTokenizerBase

    @property
    def section(self) -> TrainerSection | PeerSection | PPOConfig:
        """The part of the recipe that this stage reads."""
        section: TrainerSection | PeerSection | PPOConfig = getattr(
            self.context.recipe, self.section_name
        )
        return section

    @property
    def lora(self) -> LoraSection | None:
        """The adapter that is trained; the peers of PPO train what PPO does."""
        section = self.section
        return self.context.recipe.ppo.lora if isinstance(section, PeerSection) else section.lora

    @property
    def max_length(self) -> int:
        """Tokens of prompt and answer; PPO and its peers go as far as the reward model has read.

        With a ready-made reward model, as far as the policy has: the reward model's own limit is in
        its own tokens.
        """
        section, parents = self.section, self.context.parents
        if isinstance(section, TrainerSection):
            return section.max_length
        name = "reward" if "reward" in parents else "sft"
        return int(parents[name].manifest.config[name]["max_length"])

    @property
    def arithmetic(self) -> torch.dtype:
        """The type that passes through the models compute in."""
        return models.find_dtype(self.context.recipe.model.dtype, self.device)

    @classmethod
    def of(cls, context: StageContext, section_name: str) -> Base:
        """The recipe's model for SFT; the published SFT policy for every later stage."""
        model = context.recipe.model
        parent = context.parents.get("sft")
        path, revision = (str(parent.model), None) if parent else (model.path, model.revision)
        tokenizer = models.load_tokenizer(path, revision=revision)
        device = models.find_device(model.device)
        return cls(context, section_name, path, revision, device, tokenizer)

    def load(self, task: models.Task = "causal", *, trained: bool = True) -> PreTrainedModel:
        """Load the weights in evaluation mode.

        Weights that are trained themselves (all of them without LoRA, the head of a reward model)
        are float32 whatever the recipe's type, which then is that of the arithmetic only: a step
        of bfloat16 weights at the usual learning rates rounds to nothing.
        """
        dtype = self.context.recipe.model.dtype
        if trained and (self.lora is None or task == "reward"):
            dtype = "float32"
        kwargs: dict[str, Any] = {
            "revision": self.revision,
            "dtype": dtype,
            "device": self.device,
        }
        if task == "reward":
            pad_id = self.tokenizer.pad_token_id
            kwargs |= {"pad_id": pad_id, "seed": self.context.seed}
            return models.load_reward_model(self.path, **kwargs)
        model = models.load_causal_lm(self.path, **kwargs)
        models.fit_embeddings(model, self.tokenizer)
        return model

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
            "tokenizer_hash": models.tokenizer_hash(self.tokenizer),
            "template_hash": models.template_hash(self.tokenizer),
            "splits": {name: value_hash(rows) for name, rows in splits.items()},
        }


def trainer(
    trainer_class: type[Any],
    config_class: type[Any],
    base: Base,
    examples: Sequence[dict[str, Any]],
    *,
    task: models.Task = "causal",
    defaults: dict[str, Any] | None = None,
    fixed: dict[str, Any] | None = None,
    **kwargs: Any,
) -> Any:
    """Build a TRL trainer over encoded examples.

    Args:
        examples: rows with the columns that TRL gives to tokenised data.
        defaults: settings of this stage where the recipe does not say otherwise.
        fixed: settings of this stage that hold whatever the recipe says.
        kwargs: further arguments of the trainer, above all `model`.
    """
    try:
        with models.quiet():  # some load a reference
            return guarded(trainer_class)(
                args=settings(config_class, base, defaults or {}, fixed or {}),
                train_dataset=Dataset.from_dict({n: [e[n] for e in examples] for n in examples[0]}),
                processing_class=base.tokenizer,
                peft_config=base.adapter(task),
                **kwargs,
            )
    except (TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"{base.section_name}.trainer: {reason}; correct the recipe") from error


def settings(
    config_class: type[Any], base: Base, defaults: dict[str, Any], fixed: dict[str, Any]
) -> Any:
    """Build TRL's configuration: our defaults, then the recipe's `trainer`, then what must hold."""
    cuda = base.device.type == "cuda"
    ours = {
        "bf16": base.arithmetic == torch.bfloat16,
        "gradient_checkpointing": False,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": cuda,
        "disable_tqdm": True,
        "logging_steps": 5,
        "logging_first_step": True,
        "save_strategy": "no",
    }
    required = {
        "output_dir": str(base.context.out / "trainer"),
        "seed": base.context.seed,
        "use_cpu": not cuda,
        "report_to": "none",
        "logging_nan_inf_filter": False,  # the default logs a NaN loss as 0.0
        "remove_unused_columns": False,  # `length` feeds train_sampling_strategy=group_by_length
    }
    if any(field.name == "max_length" for field in dataclasses.fields(config_class)):
        required["max_length"] = None  # rows that are too long were dropped before
    given = {} if isinstance(base.section, PPOConfig) else base.section.trainer
    return config_class(**(ours | defaults | given | required | fixed))


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
    base: Base, pairs: Sequence[Preference], name: str
) -> tuple[list[Preference], list[dict[str, Any]]]:
    """Encode preference pairs that fit: the prompt, and each answer through its stop token.

    Returns:
        The pairs kept, and for each `prompt_ids`, `chosen_ids`, `rejected_ids` and `length`.
    """
    tokenizer = base.tokenizer
    encoded: list[tuple[Preference, dict[str, Any]]] = []
    for pair in pairs:
        prompt = chat.prompt_ids(tokenizer, pair.prompt)
        chosen = chat.response_ids(tokenizer, pair.prompt, pair.chosen)
        rejected = chat.response_ids(tokenizer, pair.prompt, pair.rejected)
        length = len(prompt) + max(len(chosen), len(rejected))
        ids = {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
        encoded.append((pair, ids | {"length": length}))
    kept = within(encoded, lambda both: both[1]["length"], base.max_length, name)
    return [pair for pair, _ in kept], [ids for _, ids in kept]


def guarded(trainer_class: type[Any]) -> type[Any]:
    """A trainer that stops at the first loss that is NaN or infinite, before the weights move."""

    class GuardedTrainer(trainer_class):
        def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            loss = super().training_step(*args, **kwargs)
            if not torch.isfinite(loss):
                raise DivergedError(
                    f"loss={loss.item()} at step {self.state.global_step + 1}; "
                    "lower trainer.learning_rate, or trainer.max_grad_norm"
                )
            return loss

    return GuardedTrainer


class TrackerCallback(TrainerCallback):
    """Feeds what TRL logs into the stage's tracker, keyed `stage/group/name`."""

    def __init__(self, context: StageContext, stage: str) -> None:
        self.context, self.stage = context, stage
        self.latest: dict[str, float] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        control.should_log |= state.global_step == state.max_steps
        return control

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if not logs or "train_runtime" in logs:  # TRL's closing summary, without a curve
            return
        metrics = {
            self._key(name): float(value)
            for name, value in logs.items()
            if value is not None  # TRL's word for a mean over nothing
        }
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise DivergedError(
                    f"{name}={value} at step {state.global_step}; lower trainer.learning_rate"
                )
        self.latest |= metrics
        self.context.tracker.log(state.global_step, metrics, total=state.max_steps)

    def _key(self, name: str) -> str:
        group, slash, rest = name.partition("/")
        return (
            f"{self.stage}/{group}/{rest.replace('/', '_')}"
            if slash
            else f"{self.stage}/train/{name}"
        )


def fit(trainer: Trainer, base: Base) -> dict[str, float]:
    """Train to the end, feeding the tracker; return the metrics as they stood at the last log."""
    for printer in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printer)
    callback = TrackerCallback(base.context, base.section_name)
    trainer.add_callback(callback)
    trainer.train()
    shutil.rmtree(str(trainer.args.output_dir), ignore_errors=True)  # TRL's working folder
    return callback.latest
