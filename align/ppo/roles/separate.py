"""The separate layout: a full model for each role, for full fine-tuning."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain

import torch
from peft import LoraConfig, PeftModel, inject_adapter_in_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from align.maths.timeline import Sequences
from align.models.adapters import VALUE, base_of, merged, trainable
from align.models.folded import fold_adapters
from align.models.forward import (
    Critic,
    PolicyOutputs,
    computing_in,
    final_scores,
    policy_forward,
    response_states,
    state_values,
    trunk_of,
    value_head,
    zero_head,
)
from align.models.load import HEAD, disable_dropout
from align.ppo.roles.protocol import SequenceScorer, checked_std, foreign_critic


class SeparateRoles:
    """Four full models; the policy, and with `value_lora` the critic, may carry an adapter."""

    def __init__(
        self,
        policy: PreTrainedModel | PeftModel,
        reference: PreTrainedModel,
        reward_model: PreTrainedModel | SequenceScorer,
        *,
        pad_id: int,
        stop_ids: Sequence[int],
        reward_mean: float = 0.0,
        reward_std: float = 1.0,
        reward_stop_id: int | None = None,
        critic: Critic = "reward",
        value_lora: LoraConfig | None = None,
        compute_dtype: torch.dtype | None = None,
    ) -> None:
        """Take over the models.

        Args:
            reward_model: on the policy's tokens, or whatever else scores.
            critic: a copy of reward_model, one of the reference's trunk with a zero head, or no
                model but a zero head on the policy's states.
            value_lora: the adapter of the critic's copy; None = all of it is trained.
            compute_dtype: type that the passes of all roles compute in, by autocast; None = that of
                the weights. What is trained is float32 in any case.
        """
        self.pad_id, self.stop_ids, self.device = pad_id, stop_ids, policy.device
        self.reward_mean, self.reward_std = reward_mean, checked_std(reward_std)
        self.reward_stop_id = reward_stop_id
        self.policy, self.reference, self.compute_dtype = policy, reference, compute_dtype
        self.reward_model = reward_model
        frozen = [reference]
        if isinstance(reward_model, PreTrainedModel):
            frozen.append(reward_model)
        self.value_trunk: nn.Module | None = None  # None: the policy's
        if critic != "reward":
            self.value_head = zero_head(reference)
            if critic == "zero":
                self.value_trunk = copy.deepcopy(trunk_of(reference))
        elif isinstance(reward_model, PreTrainedModel):
            self.value_trunk = copy.deepcopy(trunk_of(reward_model))
            head = getattr(reward_model, HEAD)
            self.value_head = value_head(head, mean=reward_mean, std=reward_std)
        else:
            raise foreign_critic()
        self.policy_value_head = self.value_head if self.value_trunk is None else None
        learning: list[nn.Module] = [policy]
        if self.value_trunk is not None:
            learning.append(self.value_trunk.requires_grad_(True))
            if value_lora is not None:
                inject_adapter_in_model(copy.deepcopy(value_lora), self.value_trunk, VALUE)
        if not isinstance(policy, PeftModel):
            reference.float()  # as the policy becomes: equal bit for bit before the first step
        for model in frozen:
            model.requires_grad_(False)
        for role in (*learning, *frozen):
            disable_dropout(role)
            fold_adapters(role)
            role.eval()
        self.policy_parameters, *of_trunk = (trainable(role) for role in learning)
        self.value_parameters = [*chain(*of_trunk), *self.value_head.parameters()]

    def policy_outputs(self, sequences: Sequences) -> PolicyOutputs:
        with self._in_compute_dtype():
            return policy_forward(self.policy, sequences)

    @torch.no_grad()
    def reference_logits(self, sequences: Sequences) -> Tensor:
        with self._in_compute_dtype():
            return policy_forward(self.reference, sequences).logits

    def values(self, sequences: Sequences, states: Tensor | None = None) -> Tensor:
        with self._in_compute_dtype():
            if self.value_trunk is not None:
                states = response_states(self.value_trunk, sequences)
            elif states is None:
                with torch.no_grad():
                    states = response_states(trunk_of(self._plain_policy()), sequences)
            return state_values(self.value_head, states, sequences)

    @torch.no_grad()
    def scores(self, sequences: Sequences) -> Tensor:
        model = self.reward_model
        if not isinstance(model, PreTrainedModel):
            return model(sequences)
        with self._in_compute_dtype():
            return final_scores(trunk_of(model), getattr(model, HEAD), sequences)

    @contextmanager
    def sampling(self) -> Iterator[PreTrainedModel]:
        with self._in_compute_dtype():
            if not isinstance(self.policy, PeftModel):
                yield self.policy
                return
            with merged(self.policy):
                yield base_of(self.policy)

    def _plain_policy(self) -> PreTrainedModel:
        return base_of(self.policy) if isinstance(self.policy, PeftModel) else self.policy

    def trained_policy(self) -> PreTrainedModel | PeftModel:
        """The policy, ready to be saved."""
        return self.policy

    def _in_compute_dtype(self) -> AbstractContextManager[object]:
        return computing_in(self.compute_dtype, self.device)
