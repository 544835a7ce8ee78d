"""The separate layout: a full model for each role, for full fine-tuning."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from peft import LoraConfig, PeftModel, inject_adapter_in_model
from torch import Tensor
from transformers import PreTrainedModel

from align.models import HEAD, disable_dropout
from align.readout import (
    CriticInit,
    computing_in,
    final_scores,
    response_logits,
    state_values,
    trunk_of,
    value_head,
    zero_head,
)
from align.roles.adapters import VALUE, base_of, merged, trainable
from align.roles.folded import fold_adapters
from align.roles.protocol import Scorer, checked_std, foreign_critic
from align.types import Sequences


class SeparateRoles:
    """Four full models; the policy, and with `value_lora` the critic, may carry an adapter."""

    def __init__(
        self,
        policy: PreTrainedModel | PeftModel,
        reference: PreTrainedModel,
        reward_model: PreTrainedModel | Scorer,
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
            reward_model: on the policy's tokens, or whatever else scores.
            critic_init: a copy of reward_model, or of the reference's trunk with a zero head.
            value_lora: the critic's adapter; None = the whole critic is trained.
            arithmetic: type that the passes of all roles compute in, by autocast; None = that of
                the weights. What is trained is float32 in any case.
        """
        self.pad_id, self.stop_ids, self.device = pad_id, stop_ids, policy.device
        self.reward_mean, self.reward_std = reward_mean, checked_std(reward_std)
        self.policy, self.reference, self.arithmetic = policy, reference, arithmetic
        self.reward_model = reward_model
        frozen = [reference]
        if isinstance(reward_model, PreTrainedModel):
            frozen.append(reward_model)
        if critic_init == "zero":
            trunk, self.value_head = trunk_of(reference), zero_head(reference)
        elif isinstance(reward_model, PreTrainedModel):
            trunk = trunk_of(reward_model)
            head = getattr(reward_model, HEAD)
            self.value_head = value_head(head, mean=reward_mean, std=reward_std)
        else:
            raise foreign_critic()
        self.value_trunk = copy.deepcopy(trunk).requires_grad_(True)
        if value_lora is not None:
            inject_adapter_in_model(copy.deepcopy(value_lora), self.value_trunk, VALUE)
        if not isinstance(policy, PeftModel):
            reference.float()  # as the policy becomes: equal bit for bit before the first step
        for model in frozen:
            model.requires_grad_(False)
        for role in (policy, *frozen, self.value_trunk):
            disable_dropout(role)
            fold_adapters(role)
            role.eval()
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
        model = self.reward_model
        if not isinstance(model, PreTrainedModel):
            return model(sequences)
        with self._arithmetic():
            return final_scores(trunk_of(model), getattr(model, HEAD), sequences)

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

    def _arithmetic(self) -> AbstractContextManager[object]:
        return computing_in(self.arithmetic, self.device)
