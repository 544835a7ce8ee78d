"""Adapters on one base: their names, how one is folded in, and how the reward stage's is loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, load_peft_weights, set_peft_model_state_dict
from peft.tuners.lora import ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from align.config import LoraSection
from align.messages.errors import ConfigError
from align.models.load import HEAD
from align.models.vocabulary import token_layers

POLICY, VALUE, REWARD = "default", "value", "reward"
"""Names of the adapters; the policy's is the one PEFT gives a lone adapter, and saves as one."""


def check_targets(model: PreTrainedModel, lora: LoraSection, *, key: str) -> None:
    """Refuse adapters on what cannot carry one alone; `all-linear` never names such a layer.

    A head tied to the embeddings shares its weight with them: an adapter on one of the two would be
    merged into both, and the published model would be another than the one that was trained.

    Args:
        key: of the section in the recipe, as `ppo.lora`.

    Raises:
        ConfigError: in one line.
    """
    targets = lora.targets
    if targets == "all-linear":
        return
    named = {name: layer for name, layer in model.named_modules() if _is_target(name, targets)}
    linear = [name for name, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D)]
    usual = {name.rpartition(".")[2] for name in linear} - {HEAD, "lm_head"}
    remedy = f"name some of {', '.join(sorted(usual))}, or use all-linear"
    shown = json.dumps(targets if isinstance(targets, str) else list(targets), ensure_ascii=False)
    if not named:
        raise ConfigError(
            "{key}.targets={shown}: {model} has no such layer; {remedy}",
            key=key,
            shown=shown,
            model=type(model).__name__,
            remedy=remedy,
        )
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    for name, layer in named.items():
        if isinstance(layer, nn.Embedding):
            raise ConfigError(
                "{key}.targets={shown}: {name} is an embedding, expected linear layers; {remedy}",
                key=key,
                shown=shown,
                name=name,
                remedy=remedy,
            )
        if layer is head and head.weight is embeddings.weight:
            raise ConfigError(
                "{key}.targets={shown}: {name} shares its weight with the embeddings, "
                "which an adapter on it would change too; {remedy}",
                key=key,
                shown=shown,
                name=name,
                remedy=remedy,
            )


def rows_to_train(
    model: PreTrainedModel, lora: LoraSection, ids: Sequence[int]
) -> dict[str, list[int]]:
    """The layers whose rows of these tokens an adapter has to train by themselves, by their names.

    Embeddings, and a head with weights of its own unless the adapter is on it anyway.
    """
    if not ids:
        return {}
    names = token_layers(model)
    own = [
        name for name in names if lora.targets == "all-linear" or not _is_target(name, lora.targets)
    ]
    return {name: list(ids) for name in own}


def _is_target(name: str, targets: str | Sequence[str]) -> bool:
    """Whether PEFT puts an adapter on a module: a pattern of its whole name, or its last parts."""
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def add_reward_adapter(model: PeftModel, name: str, folder: Path) -> nn.Linear:
    """Add the reward stage's adapter under `name`; return its head."""
    config = LoraConfig.from_pretrained(str(folder))
    config.task_type, config.modules_to_save, config.inference_mode = "CAUSAL_LM", None, False
    weights = load_peft_weights(str(folder), device=str(model.device))
    heads = [key for key in weights if key.endswith(f"{HEAD}.weight")]
    if len(heads) != 1:
        raise ConfigError(
            "{folder} holds {count} reward heads, expected one `{head}.weight`; train "
            "the reward model with LoRA, or use ppo.layout=separate",
            folder=folder,
            count=len(heads),
            head=HEAD,
        )
    head = weights.pop(heads[0]).float()
    try:
        model.add_adapter(name, config)
        result: Any = set_peft_model_state_dict(model, weights, adapter_name=name)
    except (ValueError, RuntimeError) as error:  # other modules, other shapes
        raise misfit(folder, str(error).strip().splitlines()[0]) from error
    own = [key for key in result.missing_keys if f".{name}." in key]
    if own or result.unexpected_keys:
        raise misfit(folder, f"{[*own, *result.unexpected_keys][0]} has no counterpart")
    linear = nn.Linear(head.shape[1], 1, bias=False, device=model.device)
    linear.weight = nn.Parameter(head, requires_grad=False)
    return linear


def misfit(folder: Path, reason: str) -> ConfigError:
    return ConfigError(
        "{folder} is no adapter of this base: {reason}; train the reward model on "
        "the SFT model that PPO starts from",
        folder=folder,
        reason=reason,
    )


@contextmanager
def merged(model: PeftModel) -> Iterator[None]:
    """Fold the policy's adapter into the base weights; put the very same weights back afterwards.

    Sampling then costs no more than the base model does. Only in float32: in bfloat16 a young
    adapter would be rounded away, and the sampler runs with the adapter beside the base instead.
    """
    layers: list[Any] = [m for m in model.modules() if isinstance(m, BaseTunerLayer)]
    # The experts of a mixture are one parameter of a module that has no `weight`.
    weights = [
        layer.get_param() if isinstance(layer, ParamWrapper) else layer.get_base_layer().weight
        for layer in layers
    ]
    if any(weight.dtype != torch.float32 for weight in weights):
        yield
        return
    originals = [weight.data for weight in weights]
    try:
        with torch.no_grad():
            for layer, weight in zip(layers, weights, strict=True):
                weight.data = weight.data + layer.get_delta_weight(POLICY)
        with model.disable_adapter():
            yield
    finally:
        for weight, original in zip(weights, originals, strict=True):
            weight.data = original


@torch.no_grad()
def plain_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every weight by the name it has without adapters, with those folded in that are on."""
    for name, weight in model.named_parameters():
        prefix, inside, own = name.rpartition("base_layer.")
        if inside:
            layer: Any = model.get_submodule(prefix.removesuffix("."))
            if own == "weight" and not layer.disable_adapters:
                on = [each for each in layer.active_adapters if each in layer.lora_A]
                whole: Any = sum((layer.get_delta_weight(each) for each in on), weight)
                yield prefix + own, whole.to(weight.dtype)
            else:
                yield prefix + own, weight.detach()
        elif "lora_" not in name:
            yield name, weight.detach()


def base_of(model: PeftModel) -> PreTrainedModel:
    """The transformers model inside, adapters in place."""
    return cast(PreTrainedModel, model.get_base_model())


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters to train, made float32: in bfloat16 a usual step rounds to nothing."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.data = parameter.data.float()
    return parameters
