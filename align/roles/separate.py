"""The separate layout: a full model for each role, for full fine-tuning."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from peft import LoraConfig, PeftModel, inject_adapter_in_model
from torch import Tensor
from transformers import PreTrainedModel

from align.models import HEAD, disable_dropout
from align.readout import (
    CriticInit,
    final_scores,
    response_logits,
    state_values,
    trunk_of,
    value_head,
)
from align.roles.adapters import VALUE, base_of, merged, trainable
from align.roles.protocol import checked_std
from align.types import Sequences


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
        arithmetic: torch.dtype | None = None,
    ) -> None:
        """Take over the models.

        Args:
            critic_init: a copy of reward_model, or of the reference's trunk with a zero head.
            value_lora: the critic's adapter; None = the whole critic is trained.
            arithmetic: type that the passes of all roles compute in, by autocast; None = that of
                the weights. What is trained is float32 in any case.
        """
        self.pad_id, self.stop_ids, self.device = pad_id, stop_ids, policy.device
        self.reward_mean, self.reward_std = reward_mean, checked_std(reward_std)
        self.policy, self.reference, self.reward_model = policy, reference, reward_model
        self.reward_head, self.arithmetic = getattr(reward_model, HEAD), arithmetic
        source = reward_model if critic_init == "reward" else reference
        self.value_trunk = copy.deepcopy(trunk_of(source)).requires_grad_(True)
        if value_lora is not None:
            inject_adapter_in_model(copy.deepcopy(value_lora), self.value_trunk, VALUE)
        self.value_head = value_head(
            self.reward_head, critic_init=critic_init, mean=reward_mean, std=reward_std
        )
        for frozen in (reference, reward_model):
            frozen.requires_grad_(False)
        if not isinstance(policy, PeftModel):
            reference.float()  # as the policy becomes: equal bit for bit before the first step
        for model in (policy, reference, reward_model, self.value_trunk):
            disable_dropout(model)
            model.eval()
        self.policy_parameters = trainable(policy)
        self.value_parameters = [*trainable(self.value_trunk), *self.value_head.parameters()]

    def policy_logits(self, sequences: Sequences) -> Tensor:
        with self._arithmetic():
            return response_logits(self.policy, sequences)

    @torch.no_grad()
    def reference_logits(self, sequences: Sequences) -> Tensor:
        with self._arithmetic():
            return response_logits(self.reference, sequences)

    def values(self, sequences: Sequences) -> Tensor:
        with self._arithmetic():
            return state_values(self.value_trunk, self.value_head, sequences)

    @torch.no_grad()
    def scores(self, sequences: Sequences) -> Tensor:
        with self._arithmetic():
            return final_scores(trunk_of(self.reward_model), self.reward_head, sequences)

    @contextmanager
    def sampling(self) -> Iterator[PreTrainedModel]:
        with self._arithmetic():
            if not isinstance(self.policy, PeftModel):
                yield self.policy
                return
            with merged(self.policy):
                yield base_of(self.policy)

    def trained_policy(self) -> PreTrainedModel | PeftModel:
        """The policy, ready to be saved."""
        return self.policy

    def _arithmetic(self) -> torch.autocast:
        wanted = self.arithmetic is not None
        return torch.autocast(self.device.type, dtype=self.arithmetic, enabled=wanted)
