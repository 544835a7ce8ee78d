"""What a training stage starts from, and what it leaves: model, tokenizer, rows that fit, hand-off.

SFT starts from the recipe's model, every later stage from the published SFT policy.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from align.config import BaselineSection, LoraSection, PPOConfig, TrainerSection
from align.data import chat
from align.data.templates import control_ids
from align.messages import doing, say, tell
from align.messages.errors import ConfigError
from align.models import load as models
from align.models import publish, quantized
from align.models.adapters import check_targets, rows_to_train
from align.models.vocabulary import fit_embeddings, untrained_rows
from align.runs import threads
from align.runs.contract import StageContext
from align.runs.hashing import HashCache, model_hash, value_hash
from align.sampling.self_check import read_positions
from stages.support.too_long import refuse_long

Example = TypeVar("Example")


@dataclass(frozen=True)
class TrainingSetup:
    """Device, tokenizer, and where the weights lie that a stage starts from."""

    context: StageContext
    section_name: str
    path: str
    revision: str | None
    device: torch.device
    tokenizer: PreTrainedTokenizerBase
    template: str | None
    """Name or file of the chat template that the model was given; None: its own."""
    new_ids: tuple[int, ...]
    """Control tokens that this stage adds to the model."""
    positions: int | None
    """Tokens that the model has positions for; None = no limit is known."""
    chosen: dict[str, Any] = field(default_factory=dict)
    """Fields of `trainer` that the recipe left open, once they are chosen by the number of rows."""

    @property
    def section(self) -> TrainerSection | BaselineSection | PPOConfig:
        """The part of the recipe that this stage reads."""
        section: TrainerSection | BaselineSection | PPOConfig = getattr(
            self.context.recipe, self.section_name
        )
        return section

    @property
    def lora(self) -> LoraSection | None:
        """The adapter that is trained."""
        return self.context.recipe.lora_of(self.section_name)

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
        quantized.check(context.recipe, [section_name])
        # Names of gradient checkpointing that transformers renames and TRL and PEFT still use.
        hidden = ".*gradient_checkpointing.*"
        warnings.filterwarnings("ignore", message=hidden, category=FutureWarning)
        model, parent = context.recipe.model, context.parents.get("sft")
        path, revision = (str(parent.model), None) if parent else (model.path, model.revision)
        read = models.read_tokenizer(
            path, revision=revision, chat_template=None if parent else model.chat_template
        )
        template = parent.manifest.chat_template if parent else read.template
        vocabulary = read.tokenizer.get_vocab()
        new_ids = tuple(vocabulary[token] for token in read.new_tokens)
        device = models.find_device(model.device)
        positions = read_positions(path, revision=revision)
        setup = cls(
            *(context, section_name, path, revision, device),
            *(read.tokenizer, template, new_ids, positions),
        )
        # Also where OMP_NUM_THREADS has said so: torch then sums in another order than without.
        threads.set_threads(model.threads)
        if device.type == "cpu" and (line := threads.advice(model.threads)) is not None:
            context.tracker.note(line)
        if read.template is not None:
            why = "" if model.chat_template else say(", since the model has none")
            tokens = ", ".join(read.new_tokens)
            added = say("; new tokens: {tokens}", tokens=tokens) if tokens else ""
            context.tracker.note(f"model.chat_template={read.template}{why}{added}")
        if positions is not None and setup.max_length > positions:
            raise ConfigError(
                "{section}.max_length={max_length} is more than the {positions} positions "
                "of {path!r}; set {section}.max_length={positions}",
                section=section_name,
                max_length=setup.max_length,
                positions=positions,
                path=path,
            )
        return setup

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
            "in_4bit": self.compute_dtype if self.context.recipe.model.load_in_4bit else None,
        }
        if task == "reward":
            pad_id = self.tokenizer.pad_token_id
            kwargs |= {"pad_id": pad_id, "seed": self.context.seed}
            model = models.load_reward_model(self.path, **kwargs)
        else:
            model = models.load_causal_lm(self.path, **kwargs)
            fit_embeddings(model, self.tokenizer, new=self.new_ids)
            self._tell_untrained_stop(model)
        own = self.context.recipe.lora_key(self.section_name)
        for key, lora in self.context.recipe.adapters.items():
            if self.section_name == "sft" or key == own:  # the first stage: those of all to come
                check_targets(model, lora, key=key)
        return model

    def _tell_untrained_stop(self, model: PreTrainedModel) -> None:
        """A later stage's adapter leaves the rows of tokens as SFT left them."""
        if self.lora is None or self.section_name == "sft":
            return
        if untrained_rows(model, [stop := chat.stop_id(self.tokenizer)]):
            self.context.tracker.note(
                say(
                    "warning: {path}: the embedding of the stop token {token} was never trained, "
                    "and {stage} with LoRA does not train it: answers may not stop; train SFT "
                    "with this project, or all weights here",
                    path=self.path,
                    token=self.tokenizer.convert_ids_to_tokens(stop),
                    stage=self.section_name,
                )
            )

    def adapter(self, model: PreTrainedModel, task: models.Task = "causal") -> LoraConfig | None:
        """The adapter that TRL is to add to a model, if the recipe asks for one.

        That of SFT trains the control tokens' rows too, where nothing has trained them: those that
        it added, and those that the base left as they were initialised. Low-rank changes of the
        layers between cannot make a model write a token whose row says nothing.
        """
        if self.lora is None:
            return None
        rows: dict[str, list[int]] = {}
        if self.section_name == "sft":
            untrained = untrained_rows(model, control_ids(self.tokenizer))
            rows = rows_to_train(model, self.lora, sorted({*self.new_ids, *untrained}))
        if rows:
            ids = next(iter(rows.values()))
            names = ", ".join(self.tokenizer.convert_ids_to_tokens(ids))
            self.context.tracker.note(
                say("sft.lora: trains the embeddings of {names} too", names=names)
            )
        return models.lora_config(self.lora, task=task, rows=rows)

    def within(
        self,
        examples: Sequence[Example],
        length: Callable[[Example], int],
        name: str,
        *,
        room: int = 0,
    ) -> list[Example]:
        """Drop examples longer than `max_length` and say how many: a cut answer has no stop token.

        Args:
            length: tokens of an example.
            name: of the data, below `data`.
            room: tokens of an answer that is to come.
        """
        limit, lengths = self.max_length - room, list(map(length, examples))
        told = refuse_long(lengths, name, limit=limit, room=room, positions=self.positions)
        kept = [each for each, tokens in zip(examples, lengths, strict=True) if tokens <= limit]
        if dropped := len(examples) - len(kept):
            tell(
                say(
                    "data.{name}: dropped {dropped} rows {told}",
                    name=name,
                    dropped=dropped,
                    told=told,
                )
            )
        return kept

    def publish(self, model: PreTrainedModel | PeftModel) -> None:
        """Write `model/` and, with LoRA, `adapter/` into the stage's folder."""
        base = publish.Base(
            self.path,
            self.revision,
            is_sft="sft" in self.context.parents,
            in_4bit=self.context.recipe.model.load_in_4bit,
        )
        with doing(say("saving the model")):
            publish.save(model, self.tokenizer, self.context.out, base=base)

    def handoff(self, **splits: Any) -> dict[str, Any]:
        """What the next stages check before they build on this one."""
        return {
            "kind": "full" if self.lora is None else "adapter",
            "base_model": model_hash(Path(self.path), HashCache())
            if Path(self.path).exists()
            else f"{self.path}@{self.revision}",
            "tokenizer_hash": chat.tokenizer_hash(self.tokenizer),
            "template_hash": chat.template_hash(self.tokenizer),
            "chat_template": self.template,
            "template_date": chat.template_date(self.tokenizer),
            "chosen": self.chosen,
            "splits": {name: value_hash(rows) for name, rows in splits.items()},
        }
