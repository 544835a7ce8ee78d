"""What both trainers are given: one tiny Llama from one seed, and the same prompts.

How long responses get is built into the weights. The head has a frozen bias: the padding token is
never sampled (TRL takes every padding id for padding), and the stop token has a fixed probability
at each step, or none, whatever the prompt says. So the same lengths are drawn before and after an
update, by either sampler.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

PAD, STOP = 0, 1
NEVER = -1e4  # a logit that softmax turns into 0
INIT_STD = 0.02


@dataclass(frozen=True)
class Shape:
    """A model and a rollout. The default is the first shape of the benchmark: 5.8 M parameters."""

    hidden: int = 256
    layers: int = 6
    heads: int = 4
    intermediate: int = 688
    vocab: int = 4096
    prompts: int = 32
    shortest: int = 16  # tokens of a prompt
    longest: int = 64
    new_tokens: int = 64
    mean_length: float | None = None  # tokens of a response; None: none ever stops
    dtype: str = "float32"  # of the arithmetic and of frozen weights; what is trained is float32

    @property
    def arithmetic(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    @property
    def stop_probability(self) -> float:
        """At every step."""
        return 0.0 if self.mean_length is None else stop_probability(self)

    def title(self) -> str:
        length = "fixed" if self.mean_length is None else f"mean {self.mean_length:g}"
        return (
            f"hidden {self.hidden}, {self.layers} layers, vocabulary {self.vocab}; {self.prompts} "
            f"prompts of {self.shortest}–{self.longest} tokens, {self.new_tokens} new ({length})"
        )


def stop_probability(shape: Shape) -> float:
    """The p at which the length, geometric and cut at new_tokens, has the mean asked for.

    E[length] = Σₖ (1 − p)ᵏ for k < n = (1 − (1 − p)ⁿ) / p, which falls from n to 1 as p grows.
    """
    low, high = 1e-9, 1.0
    wanted = shape.mean_length or math.inf
    for _ in range(60):
        p = (low + high) / 2
        mean = (1 - (1 - p) ** shape.new_tokens) / p
        low, high = (p, high) if mean > wanted else (low, p)
    return (low + high) / 2


def llama_config(shape: Shape) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=2 * (shape.longest + shape.new_tokens),
        initializer_range=INIT_STD,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        eos_token_id=STOP,
        bos_token_id=None,
    )


def causal_lm(shape: Shape, *, seed: int = 0) -> LlamaForCausalLM:
    """A random Llama in float32 that stops with the shape's probability at every step."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(llama_config(shape))
    embedding = cast(nn.Embedding, model.get_input_embeddings()).weight
    embedding.data[[PAD, STOP]] = 0.0  # their logits are then the bias alone
    head: Any = nn.Linear(shape.hidden, shape.vocab)
    head.weight = embedding
    head.bias = nn.Parameter(torch.zeros_like(head.bias), requires_grad=False)
    head.bias.data[PAD], head.bias.data[STOP] = NEVER, stop_logit(shape)
    model.lm_head = head
    return model.eval()


def stop_logit(shape: Shape) -> float:
    """The logit that gives the stop token its probability against all other tokens.

    A final state h has unit mean square, so the logit of a random row of the embedding is normal
    with variance σ² = INIT_STD² · hidden, and the others sum to (vocab − 2) · exp(σ² / 2).
    """
    p = shape.stop_probability
    if p == 0.0:
        return NEVER
    others = math.log(shape.vocab - 2) + INIT_STD**2 * shape.hidden / 2
    return math.log(p / (1 - p)) + others


def reward_model(shape: Shape, *, seed: int = 1) -> LlamaForSequenceClassification:
    """A random scorer on the trunk of causal_lm(shape)."""
    torch.manual_seed(seed)
    config = llama_config(shape)
    config.num_labels = 1
    model = LlamaForSequenceClassification(config)
    model.model.load_state_dict(causal_lm(shape).model.state_dict())
    return model.eval()


def save_reward_adapter(shape: Shape, lora: LoraConfig, folder: str) -> None:
    """An adapter and a head on causal_lm(shape), saved as the reward stage saves them."""
    config = copy.deepcopy(lora)
    config.task_type, config.modules_to_save = "SEQ_CLS", ["score"]
    get_peft_model(reward_model(shape), config).save_pretrained(folder)


def prompts(shape: Shape, *, seed: int = 2) -> list[list[int]]:
    """Lengths spread evenly over the range, in shuffled order; tokens at random."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.linspace(shape.shortest, shape.longest, shape.prompts).round().int()
    order = torch.randperm(shape.prompts, generator=generator)
    return [
        torch.randint(STOP + 1, shape.vocab, (int(n),), generator=generator).tolist()
        for n in lengths[order]
    ]
