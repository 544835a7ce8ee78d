"""The shared layout: one frozen base in memory, and an adapter on it for each role."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from align.maths.timeline import Sequences
from align.models.adapters import POLICY, REWARD, VALUE, add_reward_adapter, base_of, merged
from align.models.folded import fold_adapters
from align.models.forward import (
    Critic,
    PolicyOutputs,
    final_scores,
    policy_forward,
    response_states,
    state_values,
    trunk_of,
    value_head,
    zero_head,
)
from align.models.load import disable_dropout
from align.ppo.roles.protocol import SequenceScorer, checked_std, foreign_critic


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
        reward_adapter: Path | SequenceScorer,
        pad_id: int,
        stop_ids: Sequence[int],
        reward_mean: float = 0.0,
        reward_std: float = 1.0,
        reward_stop_id: int | None = None,
        critic: Critic = "reward",
    ) -> None:
        """Put the roles on `base`.

        Args:
            reward_adapter: the reward stage's folder, or what scores without an adapter.
            critic: a copy of the reward adapter and its head, an adapter of its own with a zero
                head, or a zero head on the policy's states.
        """
        self.pad_id, self.stop_ids, self.device = pad_id, stop_ids, base.device
        self.reward_mean, self.reward_std = reward_mean, checked_std(reward_std)
        self.reward_stop_id = reward_stop_id
        self.model = get_peft_model(base, copy.deepcopy(policy_lora), adapter_name=POLICY)
        own = reward_adapter if isinstance(reward_adapter, Path) else None
        self.scorer = None if isinstance(reward_adapter, Path) else reward_adapter
        if own is not None:
            self.reward_head = add_reward_adapter(self.model, REWARD, own)
        if critic == "reward":
            if own is None:
                raise foreign_critic()
            add_reward_adapter(self.model, VALUE, own)
            self.value_head = value_head(self.reward_head, mean=reward_mean, std=reward_std)
        else:
            self.value_head = zero_head(base)
        if critic == "zero":
            self.model.add_adapter(VALUE, copy.deepcopy(policy_lora))
        self.policy_value_head = self.value_head if critic == "head" else None
        disable_dropout(self.model)
        fold_adapters(self.model)
        self.model.eval()
        self.trunk = trunk_of(base)
        self._layers = [m for m in self.model.modules() if isinstance(m, BaseTunerLayer)]
        self.policy_parameters = self._parameters(POLICY)
        self.value_parameters = [*self._parameters(VALUE), *self.value_head.parameters()]

    def policy_outputs(self, sequences: Sequences) -> PolicyOutputs:
        self._activate(POLICY)
        return policy_forward(self.model, sequences)

    @torch.no_grad()
    def reference_logits(self, sequences: Sequences) -> Tensor:
        self._activate(None)
        return policy_forward(self.model, sequences).logits

    def values(self, sequences: Sequences, states: Tensor | None = None) -> Tensor:
        if self.policy_value_head is None:
            self._activate(VALUE)
            states = response_states(self.trunk, sequences)
        elif states is None:
            self._activate(POLICY)
            with torch.no_grad():
                states = response_states(self.trunk, sequences)
        return state_values(self.value_head, states, sequences)

    @torch.no_grad()
    def scores(self, sequences: Sequences) -> Tensor:
        if self.scorer is not None:
            return self.scorer(sequences)
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
        for name in set(self.model.peft_config) - {POLICY}:
            self.model.delete_adapter(name)
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
