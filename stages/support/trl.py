"""What the stages over TRL share: trainers and their settings, metrics, divergence.

TRL gets token ids that we encoded (align/data/chat.py) and only trains. Its own tokenisation,
truncation and packing of text are never used.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainerCallback
from transformers.trainer_callback import ProgressCallback

from align.config import PPOConfig
from align.messages import doing, say
from align.messages.errors import ConfigError, DivergedError
from align.models import load as models
from align.models.adapters import trainable
from align.models.forward import trunk_of
from align.models.pretrained import quiet
from align.models.shared_prefix import can_share, shared_prefixes
from align.runs.contract import StageContext
from align.runs.finite import check_tensors
from stages.support import resume
from stages.support.by_rows import PACES, chosen, size, told
from stages.support.resume import resumable
from stages.support.training import TrainingSetup

Check = Callable[[Mapping[str, float]], None]


def trainer(
    trainer_class: type[Any],
    config_class: type[Any],
    setup: TrainingSetup,
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
    if setup.section_name in PACES:
        defaults = choose(setup, examples, kwargs["model"])
    try:
        with quiet(), doing(say("preparing the training")):  # some load a reference
            built = resumable(with_finite_check(trainer_class))(
                args=settings(config_class, setup, defaults or {}, fixed or {}),
                train_dataset=Dataset.from_dict({n: [e[n] for e in examples] for n in examples[0]}),
                processing_class=setup.tokenizer,
                peft_config=setup.adapter(kwargs["model"], task),
                **kwargs,
            )
        trainable(built.model)  # on a base in four bits TRL makes them bfloat16
        return built
    except (TypeError, ValueError) as error:
        raise _refused(setup.section_name, error) from error


def check_settings(
    config_class: type[Any], stage: str, given: Mapping[str, Any], device: torch.device
) -> None:
    """Refuse what TRL's configuration refuses, before there is anything to train."""
    plain = {"output_dir": "unused", "use_cpu": device.type != "cuda", "report_to": "none"}
    try:
        with warnings.catch_warnings(action="ignore"):  # told where it trains
            config_class(**{**given, **plain})
    except (TypeError, ValueError) as error:
        raise _refused(stage, error) from error


def _refused(stage: str, error: Exception) -> ConfigError:
    reason = str(error).strip().splitlines()[0]
    return ConfigError(
        "{section}.trainer: {reason}; correct the recipe", section=stage, reason=reason
    )


def choose(
    setup: TrainingSetup, examples: Sequence[dict[str, Any]], model: PreTrainedModel
) -> dict[str, Any]:
    """What the recipe leaves open, by the number of rows; told, and kept for the manifest."""
    given = setup.section.trainer  # type: ignore[union-attr]  # PPO has no pace
    rows = len(examples)
    if given.get("packing"):
        rows = math.ceil(sum(row["length"] for row in examples) / setup.max_length)
    parameters, lora = size(model), setup.lora is not None
    found = chosen(setup.section_name, rows, given, parameters=parameters, lora=lora)
    setup.chosen.update(found)
    if found:
        line = told(setup.section_name, rows, found)
        setup.context.tracker.note(f"{setup.section_name:<9}{line}")
    return found


def settings(
    config_class: type[Any], setup: TrainingSetup, defaults: dict[str, Any], fixed: dict[str, Any]
) -> Any:
    """Build TRL's configuration: our defaults, then the recipe's `trainer`, then what must hold."""
    cuda = setup.device.type == "cuda"
    ours = {
        "bf16": setup.compute_dtype == torch.bfloat16,
        "gradient_checkpointing": False,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": cuda,
        "disable_tqdm": True,
        "logging_steps": 5,
        "logging_first_step": True,
        "save_strategy": "no",
    }
    required = {
        "output_dir": str(setup.context.out / "trainer"),
        "seed": setup.context.seed,
        "use_cpu": not cuda,
        "report_to": "none",
        "logging_nan_inf_filter": False,  # the default logs a NaN loss as 0.0
        "remove_unused_columns": False,  # `length` feeds train_sampling_strategy=group_by_length
    }
    if any(field.name == "max_length" for field in dataclasses.fields(config_class)):
        required["max_length"] = None  # rows that are too long were dropped before
    given = {} if isinstance(setup.section, PPOConfig) else setup.section.trainer
    return config_class(**(ours | defaults | given | required | fixed))


def with_finite_check(trainer_class: type[Any]) -> type[Any]:
    """A trainer that stops at the first loss that is NaN or infinite, before the weights move."""

    class FiniteTrainer(trainer_class):
        def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            loss = super().training_step(*args, **kwargs)
            if not torch.isfinite(loss):
                raise DivergedError(
                    "loss={loss} at step {step}; lower trainer.learning_rate, or "
                    "trainer.max_grad_norm",
                    loss=loss.item(),
                    step=self.state.global_step + 1,
                )
            return loss

    return FiniteTrainer


@contextmanager
def prompts_shared(trainer: Any) -> Iterator[None]:
    """Within, a trainer over pairs computes what both responses begin with once, where it can.

    Where `trainer` leaves dropout on or asks for noise (NEFTune), each response has its own.
    """
    dropout = any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in trainer.model.modules())
    noisy = dropout or bool(trainer.args.neftune_noise_alpha)
    with ExitStack() as stack:
        for model in () if noisy else (trainer.model, getattr(trainer, "ref_model", None)):
            plain: Any = model.get_base_model() if isinstance(model, PeftModel) else model
            if plain is not None and can_share(plain, trunk := trunk_of(plain)):
                stack.enter_context(shared_prefixes(trunk))
        yield


class TrackerCallback(TrainerCallback):
    """Feeds what TRL logs into the stage's tracker, keyed `stage/group/name`.

    The first and the last step are logged whatever `trainer` says: the start is checked there, and
    a curve has its end.
    """

    def __init__(self, context: StageContext, stage: str, check_start: Check | None) -> None:
        self.context, self.stage = context, stage
        self.check_start = check_start
        self.latest: dict[str, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.context.tracker.reached(state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        self.context.tracker.reached(state.global_step, state.max_steps)
        control.should_log |= state.global_step in (1, state.max_steps)
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
                    "{name}={value} at step {step}; lower trainer.learning_rate",
                    name=name,
                    value=value,
                    step=state.global_step,
                )
        if self.check_start is not None and state.global_step == 1:
            self.check_start(logs)
        self.latest |= metrics
        self.context.tracker.log(state.global_step, metrics, total=state.max_steps)

    def _key(self, name: str) -> str:
        group, slash, rest = name.partition("/")
        return (
            f"{self.stage}/{group}/{rest.replace('/', '_')}"
            if slash
            else f"{self.stage}/train/{name}"
        )


def fit(
    trainer: Trainer, setup: TrainingSetup, *, check_start: Check | None = None
) -> dict[str, float]:
    """Train to the end, feeding the tracker; return the metrics as they stood at the last log.

    Args:
        check_start: is given what TRL logs at step 1, before the weights have moved.
    """
    for printer in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printer)
    callback = TrackerCallback(setup.context, setup.section_name, check_start)
    trainer.add_callback(callback)
    setup.context.confirm()
    resume.train(trainer, setup.context.checkpoints, callback.latest)
    weights: Any = trainer.model
    step = trainer.state.global_step
    check_tensors(weights.named_parameters(), what=setup.section_name, step=step)
    shutil.rmtree(str(trainer.args.output_dir), ignore_errors=True)  # TRL's working folder
    return callback.latest
