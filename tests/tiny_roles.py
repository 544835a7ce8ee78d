"""The four roles from tiny random models, and a PPO small enough to run in a second."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from align.config import PPOConfig
from align.data import EncodedPrompt
from align.maths.timeline import Sequences
from align.ppo.roles import SeparateRoles, SharedRoles
from align.sampling.sampler import Sample, collate
from tests import tiny

PAD, STOPS = 0, list(range(1, 30))  # with 29 of 300 tokens stopping, lengths are ragged
IDS = [[5, 9, 40], [7], [8, 200, 31, 4, 90, 3], [11, 12], [60, 1, 62, 1, 64], [90, 91]]
PROMPTS = [EncodedPrompt(ids) for ids in IDS]
Build = Callable[..., PreTrainedModel]


def reward_model(build: Build = tiny.llama, *, seed: int = 3) -> PreTrainedModel:
    """A scorer on the weights of build(), with a random head."""
    base = build()
    config = copy.deepcopy(base.config)
    config.num_labels = 1
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(config)
    prefix = model.base_model_prefix
    getattr(model, prefix).load_state_dict(getattr(base, prefix).state_dict())
    return model.eval()


def separate(build: Build = tiny.llama, **settings) -> SeparateRoles:
    defaults = {"pad_id": PAD, "stop_ids": STOPS}
    return SeparateRoles(build(), build(), reward_model(build), **(defaults | settings))


def lora(**settings) -> LoraConfig:
    return LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", **settings)


def reward_adapter(folder: Path, build: Build = tiny.llama) -> PeftModel:
    """A reward adapter with weights that matter, saved to `folder` as the reward stage does."""
    config = LoraConfig(
        r=4, target_modules="all-linear", task_type="SEQ_CLS", modules_to_save=["score"]
    )
    model = get_peft_model(reward_model(build), config)
    torch.manual_seed(4)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return model.eval()


def shared(folder: Path, build: Build = tiny.llama, **settings) -> SharedRoles:
    reward_adapter(folder, build)
    defaults = {"pad_id": PAD, "stop_ids": STOPS, "reward_adapter": folder}
    policy_lora = settings.pop("policy_lora", lora())
    return SharedRoles(build(), policy_lora, **(defaults | settings))


def config(**settings) -> PPOConfig:
    defaults = {
        "iterations": 2,
        "rollout_batch_size": 12,
        "epochs": 2,
        "minibatches": 2,
        "micro_batch_size": 4,
        "learning_rate": 1e-3,
        "value_learning_rate": 1e-3,
        "max_new_tokens": 8,
    }
    return PPOConfig(**(defaults | settings))


def sequences(lengths: tuple[int, ...] = (5, 1, 3), *, pad_id: int = PAD, stop: int = 1):
    """Prompts of 3, 1 and 6 tokens with responses of the given lengths, each ending in `stop`."""
    generator = torch.Generator().manual_seed(0)
    responses = [torch.randint(30, 300, (n,), generator=generator).tolist() for n in lengths]
    samples = [Sample([*r[:-1], stop], True, [0.0] * len(r)) for r in responses]
    return collate(IDS[: len(lengths)], samples, pad_id=pad_id)


def widened(batch: Sequences, *, left: int = 0, right: int = 0, token: int = PAD) -> Sequences:
    """The same sequences with columns of padding added on either side."""
    pad = torch.nn.functional.pad
    return Sequences(
        pad(batch.input_ids, (left, right), value=token),
        pad(batch.attention_mask, (left, right), value=False),
        pad(batch.response_mask, (0, right), value=False),
        batch.prompts,
    )


@torch.no_grad()
def values_at_the_end(roles, batch: Sequences) -> torch.Tensor:
    """V of the state after each sequence: what stands before one more token."""
    rows = zip(batch.input_ids, batch.attention_mask, strict=True)
    prompts = [ids[mask].tolist() for ids, mask in rows]
    longer = collate(prompts, [Sample([9], True, [0.0])] * len(batch), pad_id=PAD)
    return roles.values(longer)[:, 0]


@torch.no_grad()
def answers(roles, batch: Sequences) -> dict[str, torch.Tensor]:
    """What each of the four roles says of a batch."""
    return {
        "policy": roles.policy_outputs(batch).logits,
        "reference": roles.reference_logits(batch),
        "critic": roles.values(batch),
        "reward model": roles.scores(batch),
    }


class Log:
    """A tracker that remembers."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def log(self, step: int, metrics, *, total: int | None = None) -> None:
        assert step == len(self.rows) + 1
        self.rows.append(dict(metrics))
