"""What DPO and KTO share: policy and reference, that they start as one, what is published."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from align.data import Preference
from align.messages.errors import ConfigError
from align.models import load as models
from align.runs.contract import StageResult
from stages.support.training import TrainingSetup

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05}
"""Of a reward that should be 0, nats, by the type computed in: TRL logs four decimals; bfloat16
rounds the sum over an answer otherwise when it is padded otherwise."""


def policy_and_reference(
    setup: TrainingSetup,
) -> tuple[PreTrainedModel, PreTrainedModel | None]:
    """The SFT policy to train, and a second copy as its reference; dropout is off in both.

    With LoRA there is no copy: the reference is the policy with its adapter off. Without, TRL left
    to itself would load whatever the model's config names.
    """
    policy, reference = setup.load(), setup.load() if setup.lora is None else None
    for model in filter(None, (policy, reference)):
        models.disable_dropout(model)
    return policy, reference


def rewards_are_zero(setup: TrainingSetup) -> Callable[[Mapping[str, float]], None]:
    """A check of what TRL logs at step 1: before the first update the policy is its reference.

    Only rewards are looked at. The loss has a known value too (DPO's is ln 2), but not with every
    setting: a router's loss is added, losses are mixed, weights are put on pairs.
    """
    name, tolerance = setup.section_name, TOLERANCE[setup.compute_dtype]

    def check(logs: Mapping[str, float]) -> None:
        for key in ("rewards/chosen", "rewards/rejected"):
            if abs(logs.get(key, 0.0)) > tolerance:  # KTO logs one of them only, if a batch is so
                raise ConfigError(
                    "{name}: {key}={value:.4g} at step 1, where the policy still is its "
                    "reference and the reward 0; take out of {name}.trainer what makes the two "
                    "compute differently",
                    name=name,
                    key=key,
                    value=logs[key],
                )

    return check


def published(
    setup: TrainingSetup,
    model: PreTrainedModel,
    metrics: dict[str, Any],
    pairs: Sequence[Preference],
    *,
    too_long: int,
) -> StageResult:
    """Publish the policy; tell the metrics, and which pairs were read."""
    setup.publish(model)
    name = setup.section_name
    metrics |= {f"{name}/data/rows": len(pairs), f"{name}/data/too_long": too_long}
    rows = [[pair.prompt, pair.chosen, pair.rejected] for pair in pairs]
    return StageResult(metrics, setup.handoff(preferences=rows))
