"""The four roles of PPO behind one interface, in two layouts of memory.

    policy        trained; is sampled from
    reference     frozen; what the policy was at the start
    value_model   trained; V of the state before each response token
    reward_model  frozen; one score per response

`SharedRoles` keeps one frozen base and switches adapters on it; `SeparateRoles` keeps full models.
Nothing else in PPO knows which. Dropout is off in every role: the ratio of a policy to itself is 1.

Shapes: b = sequences, r = response width, v = vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    inject_adapter_in_model,
    load_peft_weights,
    set_peft_model_state_dict,
)
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from align.errors import ConfigError
from align.models import HEAD, disable_dropout
from align.readout import (
    CriticInit,
    final_scores,
    response_logits,
    state_values,
    trunk_of,
    value_head,
)
from align.types import Sequences

POLICY, VALUE, REWARD = "default", "value", "reward"
"""Names of the adapters; the policy's is the one PEFT gives a lone adapter, and saves as one."""


class Roles(Protocol):
    """What PPO asks of its models."""

    pad_id: int
    stop_ids: Sequence[int]
    device: torch.device
    reward_mean: float
    reward_std: float
    """Moments of the raw score; the critic speaks of (score − mean) / std."""
    policy_parameters: list[nn.Parameter]
    value_parameters: list[nn.Parameter]

    def policy_logits(self, sequences: Sequences) -> Tensor:
        """Logits of the policy that predict each response token, [b, r, v]."""
        ...

    def reference_logits(self, sequences: Sequences) -> Tensor:
        """The same of the reference, without gradient."""
        ...

    def values(self, sequences: Sequences) -> Tensor:
        """V of the state before each response token, float32 [b, r]."""
        ...

    def scores(self, sequences: Sequences) -> Tensor:
        """Raw score of each response, read at its last token; float32 [b], without gradient."""
        ...

    def sampling(self) -> AbstractContextManager[PreTrainedModel]:
        """The policy as a plain model, for as long as it is sampled from."""
        ...


class SharedRoles:
    """One frozen base; policy, value_model and reward_model are adapters on it.

    The reference is the base with every adapter off, so the base must be what the policy starts
    from (the merged SFT model), and the reward adapter must have been trained on that same base.
    """

    def __init__(
        self,
        base: PreTrainedModel,
        policy_lora: LoraConfig,
        *,
        reward_adapter: Path,
        pad_id: int,
        stop_ids: Sequence[int],
        reward_mean: float = 0.0,
        reward_std: float = 1.0,
        critic_init: CriticInit = "reward",
    ) -> None:
        self.pad_id, self.stop_ids, self.device = pad_id, stop_ids, base.device
        self.reward_mean, self.reward_std = reward_mean, checked_std(reward_std)
        self.model = get_peft_model(base, copy.deepcopy(policy_lora), adapter_name=POLICY)
        self.reward_head = self._add_trained(REWARD, reward_adapter)
        if critic_init == "reward":
            self._add_trained(VALUE, reward_adapter)
        else:
            self.model.add_adapter(VALUE, copy.deepcopy(policy_lora))
        self.value_head = value_head(
            self.reward_head, critic_init=critic_init, mean=reward_mean, std=reward_std
        )
        disable_dropout(self.model)
        self.model.eval()
        self.trunk = trunk_of(base)
        self._layers = [m for m in self.model.modules() if isinstance(m, BaseTunerLayer)]
        self.policy_parameters = self._parameters(POLICY)
        self.value_parameters = [*self._parameters(VALUE), *self.value_head.parameters()]

    def policy_logits(self, sequences: Sequences) -> Tensor:
        self._activate(POLICY)
        return response_logits(self.model, sequences)

    @torch.no_grad()
    def reference_logits(self, sequences: Sequences) -> Tensor:
        self._activate(None)
        return response_logits(self.model, sequences)

    def values(self, sequences: Sequences) -> Tensor:
        self._activate(VALUE)
        return state_values(self.trunk, self.value_head, sequences)

    @torch.no_grad()
    def scores(self, sequences: Sequences) -> Tensor:
        self._activate(REWARD)
        return final_scores(self.trunk, self.reward_head, sequences)

    @contextmanager
    def sampling(self) -> Iterator[PreTrainedModel]:
        self._activate(POLICY)
        with merged(self.model):
            yield base_of(self.model)

    def trained_policy(self) -> PeftModel:
        """The policy's adapter alone on the base, ready to be saved. Ends the other roles."""
        self._activate(POLICY)
        self.model.delete_adapter(REWARD)
        self.model.delete_adapter(VALUE)
        return self.model

    def _activate(self, name: str | None) -> None:
        """Compute with this adapter, or with none; what is trained stays marked for training."""
        for layer in self._layers:
            layer.enable_adapters(name is not None)
            if name is not None:
                layer.set_adapter(name)
        for name_, parameter in self._adapters():
            parameter.requires_grad_(name_ != REWARD)

    def _adapters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every adapter weight with the name of its adapter."""
        for layer in self._layers:
            for kind in layer.adapter_layer_names:
                for name, module in getattr(layer, kind).items():
                    for parameter in module.parameters():
                        yield name, parameter

    def _parameters(self, adapter: str) -> list[nn.Parameter]:
        return [parameter for name, parameter in self._adapters() if name == adapter]

    def _add_trained(self, name: str, folder: Path) -> nn.Linear:
        """Add the reward stage's adapter under `name`; return its head."""
        config = LoraConfig.from_pretrained(str(folder))
        config.task_type, config.modules_to_save, config.inference_mode = "CAUSAL_LM", None, False
        weights = load_peft_weights(str(folder), device=str(self.device))
        heads = [key for key in weights if key.endswith(f"{HEAD}.weight")]
        if len(heads) != 1:
            raise ConfigError(
                f"{folder} holds {len(heads)} reward heads, expected one `{HEAD}.weight`; "
                "train the reward model with LoRA, or use ppo.layout=separate"
            )
        head = weights.pop(heads[0]).float()
        try:
            self.model.add_adapter(name, config)
            result: Any = set_peft_model_state_dict(self.model, weights, adapter_name=name)
        except (ValueError, RuntimeError) as error:  # other modules, other shapes
            raise _misfit(folder, str(error).strip().splitlines()[0]) from error
        own = [key for key in result.missing_keys if f".{name}." in key]
        if own or result.unexpected_keys:
            raise _misfit(folder, f"{[*own, *result.unexpected_keys][0]} has no counterpart")
        linear = nn.Linear(head.shape[1], 1, bias=False, device=self.device)
        linear.weight = nn.Parameter(head, requires_grad=False)
        return linear


class SeparateRoles:
    """Four full models; the policy, and with `value_lora` the critic, may carry an adapter."""

    def __init__(
        self,
        policy: PreTrainedModel | PeftModel,
        reference: PreTrainedModel,
        reward_model: PreTrainedModel,
        *,
        pad_id: int,
        stop_ids: Sequence[int],
        reward_mean: float = 0.0,
        reward_std: float = 1.0,
        critic_init: CriticInit = "reward",
        value_lora: LoraConfig | None = None,
    ) -> None:
        """`critic_init`: a copy of reward_model, or of the reference's trunk with a zero head."""
        self.pad_id, self.stop_ids, self.device = pad_id, stop_ids, policy.device
        self.reward_mean, self.reward_std = reward_mean, checked_std(reward_std)
        self.policy, self.reference, self.reward_model = policy, reference, reward_model
        self.reward_head = getattr(reward_model, HEAD)
        source = reward_model if critic_init == "reward" else reference
        self.value_trunk = copy.deepcopy(trunk_of(source)).requires_grad_(True)
        if value_lora is not None:
            inject_adapter_in_model(copy.deepcopy(value_lora), self.value_trunk, VALUE)
        self.value_head = value_head(
            self.reward_head, critic_init=critic_init, mean=reward_mean, std=reward_std
        )
        for frozen in (reference, reward_model):
            frozen.requires_grad_(False)
        for model in (policy, reference, reward_model, self.value_trunk):
            disable_dropout(model)
            model.eval()
        self.policy_parameters = trainable(policy)
        self.value_parameters = [*trainable(self.value_trunk), *self.value_head.parameters()]

    def policy_logits(self, sequences: Sequences) -> Tensor:
        return response_logits(self.policy, sequences)

    @torch.no_grad()
    def reference_logits(self, sequences: Sequences) -> Tensor:
        return response_logits(self.reference, sequences)

    def values(self, sequences: Sequences) -> Tensor:
        return state_values(self.value_trunk, self.value_head, sequences)

    @torch.no_grad()
    def scores(self, sequences: Sequences) -> Tensor:
        return final_scores(trunk_of(self.reward_model), self.reward_head, sequences)

    @contextmanager
    def sampling(self) -> Iterator[PreTrainedModel]:
        if not isinstance(self.policy, PeftModel):
            yield self.policy
            return
        with merged(self.policy):
            yield base_of(self.policy)

    def trained_policy(self) -> PreTrainedModel | PeftModel:
        """The policy, ready to be saved."""
        return self.policy


@contextmanager
def merged(model: PeftModel) -> Iterator[None]:
    """Fold the policy's adapter into the base weights; put the very same weights back afterwards.

    Sampling then costs no more than the base model does. Only in float32: in bfloat16 a young
    adapter would be rounded away, and the sampler runs with the adapter beside the base instead.
    """
    layers: list[Any] = [m for m in model.modules() if isinstance(m, BaseTunerLayer)]
    weights = [layer.get_base_layer().weight for layer in layers]
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


def base_of(model: PeftModel) -> PreTrainedModel:
    """The transformers model inside, adapters in place."""
    return cast(PreTrainedModel, model.get_base_model())


def trainable(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def checked_std(std: float) -> float:
    if not std > 0:
        raise ConfigError(
            f"reward_std={std}, expected a positive number; train the reward model again, or set "
            "ppo.normalise_reward=false"
        )
    return std


def _misfit(folder: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"{folder} is no adapter of this base: {reason}; train the reward model on the SFT model "
        "that PPO starts from"
    )
