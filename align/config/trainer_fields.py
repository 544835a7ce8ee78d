"""The field names that `trainer:` may set, read from TRL's source without importing TRL.

TRL's configuration classes have over a hundred fields and change with each release; importing them
takes seconds. Their source says the same in some 30 ms.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib.util
import math
import re
from pathlib import Path
from typing import Any

from align.config.methods import TRL
from align.config.section import suggest
from align.messages import say
from align.messages.errors import ConfigError

OURS = {
    "output_dir": "the run decides it: run=NAME",
    "seed": "set `seed` at the top of the recipe",
    "data_seed": "set `seed` at the top of the recipe",
    "max_length": "set `max_length` beside `trainer`",
    "report_to": "set `tracking.wandb`",
    "use_cpu": "set `model.device: cpu`",
    "trust_remote_code": "code from a model repository is never run",
    "hub_token": "secrets have no place in a recipe; log in with `hf auth login`",
    "push_to_hub": "publish the finished `model` folder with `hf upload`",
    "resume_from_checkpoint": "the stage finds its own checkpoints",
    "max_completion_length": "set `ppo.max_new_tokens`, which holds for its baselines too",
    "temperature": "set `ppo.temperature`, which holds for its baselines too",
    **dict.fromkeys(
        ("top_k", "top_p", "min_p", "repetition_penalty", "generation_kwargs"),
        "answers are drawn from the whole distribution of the policy, as in PPO",
    ),
    "chat_template_kwargs": "prompts are encoded before TRL sees them",
    "chat_template_path": "set `model.chat_template`, which every stage and the model will use",
    **dict.fromkeys(("eos_token", "pad_token"), "the model's tokenizer and template decide it"),
    "eval_strategy": "the evaluation stage answers held-out prompts; see `data.evaluation`",
    "log_completions": "the evaluation keeps every answer in samples.jsonl",
}
"""Fields the pipeline sets itself, and what to do instead."""

POSITIVE = (
    *("learning_rate", "num_train_epochs", "adam_epsilon", "logging_steps"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "num_generations"),
)
NOT_NEGATIVE = ("weight_decay", "max_grad_norm", "warmup_steps", "beta")
"""Numbers that TRL or torch refuse, or train backwards with, once everything is loaded."""

SCALARS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "None": (type(None),),
}


class TrainerFieldError(ValueError):
    """Problems of single `trainer` fields, as (field name, message) pairs."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{name}: {message}" for name, message in problems))
        self.problems = problems


def check_trainer(stage: str, settings: dict[str, Any]) -> None:
    """Raise with all faults unless TRL's class for `stage` takes these settings."""
    if not settings:
        return
    fields = trainer_fields(stage)
    problems = []
    for name, value in settings.items():
        if name in OURS:
            problems.append((name, say("not set here; {instead}", instead=say(OURS[name]))))
        elif name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = (
                say("did you mean `{name}`?", name=near[0])
                if near
                else say("see TRL's documentation for its fields")
            )
            said = say("{trainer}Config has no such field; {hint}", trainer=TRL[stage], hint=hint)
            problems.append((name, said))
        elif not _fits(value, fields[name]):
            problems.append((name, _should_be(name, value, fields[name])))
        elif name == "loss_type" and (odd := _unknown_losses(stage, value)):
            told = say(
                "loss_type={name}; {suggestion}",
                name=odd[0],
                suggestion=suggest(odd[0], loss_types(stage)),
            )
            problems.append((name, told))
        elif (range_ := _out_of_range(name, value)) is not None:
            problems.append((name, _should_be(name, value, range_)))
    if problems:
        raise TrainerFieldError(problems)


def _should_be(name: str, value: Any, expected: str) -> str:
    return say("{name}={value!r} should be {expected}", name=name, value=value, expected=expected)


def _out_of_range(name: str, value: Any) -> str | None:
    """Return the range that a number lies outside of. NaN lies outside of every range."""
    if not isinstance(value, int | float):
        return None
    if name in POSITIVE:
        return None if 0 < value < math.inf else say("above 0")
    if name in NOT_NEGATIVE:
        return None if 0 <= value < math.inf else say("0 or above")
    if name == "max_steps" and value != -1 and value <= 0:
        return say("above 0, or -1 for num_train_epochs")
    return None


@functools.cache
def trainer_fields(stage: str) -> dict[str, str]:
    """Return {field: annotation} of TRL's configuration class for a stage, base classes first."""
    class_name, file_name = f"{TRL[stage]}Config", f"{TRL[stage].lower()}_config.py"
    trl = _package_folder("trl") / "trainer"
    transformers = _package_folder("transformers")
    sources = (
        (transformers / "training_args.py", "TrainingArguments"),
        (trl / "base_config.py", "_BaseConfig"),
        (trl / file_name, class_name),
    )
    fields: dict[str, str] = {}
    for path, name in sources:
        fields |= _class_fields(path, name)
    return fields


def _unknown_losses(stage: str, value: Any) -> list[str]:
    """The names of losses that TRL's trainer does not compute."""
    if stage not in ("dpo", "kto"):  # the others name their losses in other ways
        return []
    names = value if isinstance(value, list) else [value]
    return [str(name) for name in names if name not in loss_types(stage)]


@functools.cache
def loss_types(stage: str) -> list[str]:
    """The losses that TRL's trainer of a stage computes, by what its source compares with."""
    path = _package_folder("trl") / "trainer" / f"{TRL[stage].lower()}_trainer.py"
    found = re.findall(r"""\bloss_type == "(\w+)\"""", path.read_text(encoding="utf-8"))
    return sorted(set(found))


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)  # finds a top-level package without importing it
    if spec is None or spec.origin is None:
        raise ConfigError("{package} is not installed; run `make setup`", package=package)
    return Path(spec.origin).parent


@functools.cache
def _class_fields(path: Path, class_name: str) -> dict[str, str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            return {
                item.target.id: ast.unparse(item.annotation)
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
            }
    raise ConfigError(
        "{path}: no class {class_name}; this TRL is not 1.16, run `make setup`",
        path=path,
        class_name=class_name,
    )


def _fits(value: Any, annotation: str) -> bool:
    """Check a value against an annotation made of plain scalars; others are TRL's to judge."""
    parts = [part.strip() for part in annotation.split("|")]
    if not all(part in SCALARS for part in parts):
        return True
    allowed = {kind for part in parts for kind in SCALARS[part]}
    return type(value) in allowed
