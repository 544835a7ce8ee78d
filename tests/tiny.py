"""Tiny random models and a tokenizer, built in memory: for tests where weights do not matter."""

from __future__ import annotations

import functools

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from data.tiny.pretrain import CHAT_TEMPLATE, CHAT_TOKENS

TEXT = [
    "Hello, how are you?",
    "The capital of Korea is Seoul.",
    "안녕하세요. 반갑습니다.",
    "2 + 3 = 5",
]


@functools.cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 300 tokens with pad 0 and stop token `<|end|>` 1."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=byte_level_bpe(TEXT, vocab_size=300, special_tokens=CHAT_TOKENS),
        pad_token="<|pad|>",
        eos_token="<|end|>",
        padding_side="left",
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def byte_level_bpe(text: list[str], *, vocab_size: int, special_tokens: list[str]) -> Tokenizer:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(text, trainer)
    return bpe


def llama(seed: int = 0, *, vocab_size: int = 300, hidden_size: int = 32) -> LlamaForCausalLM:
    """A two-layer random Llama; large initial weights keep its distributions far from uniform."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


def gpt2(seed: int = 0, *, vocab_size: int = 300) -> GPT2LMHeadModel:
    """A two-layer random GPT-2 with dropout 0.1: absolute positions, unlike Llama."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=vocab_size,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=256,
        initializer_range=0.2,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=1,
    )
    return GPT2LMHeadModel(config).eval()
