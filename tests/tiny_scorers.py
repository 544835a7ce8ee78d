"""Tiny reward models that do not read the policy's tokens: a GPT-2 and a BERT of their own."""

from __future__ import annotations

import functools
import string
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from align.scoring.text_scorer import TextScorer
from tests.tiny import TEXT, byte_level_bpe

TEMPLATE = (
    "<s>{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}</s>\n"
    "{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
)
"""Unlike the policy's: other control tokens, and a line break after each stop token."""


@functools.cache
def decoder_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of 280 tokens, with other merges and other special tokens than tiny's."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=byte_level_bpe(
            ["[user] 안녕하세요", "[assistant] good", "반갑습니다"],
            vocab_size=280,
            special_tokens=["<pad>", "<s>", "</s>"],
        ),
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
    )
    fast.chat_template = TEMPLATE
    return fast


@functools.cache
def encoder_tokenizer() -> BertTokenizer:
    """WordPiece over a vocabulary learnt from a few lines; no chat template."""
    words = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer()
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=300,
        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
        show_progress=False,
    )
    letters = string.ascii_lowercase
    words.train_from_iterator([*TEXT, letters, " ".join(letters + string.punctuation)], trainer)
    return BertTokenizer(vocab=words.get_vocab(), model_max_length=96)


def decoder(*, limit: int = 128) -> PreTrainedModel:
    torch.manual_seed(11)
    config = GPT2Config(
        vocab_size=280,
        n_embd=24,
        n_layer=2,
        n_head=2,
        n_positions=limit,
        initializer_range=0.3,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        num_labels=1,
    )
    return GPT2ForSequenceClassification(config).eval()


def encoder(*, outputs: int = 1) -> PreTrainedModel:
    torch.manual_seed(12)
    config = BertConfig(
        vocab_size=len(encoder_tokenizer()),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=96,
        initializer_range=0.3,
        num_labels=outputs,
    )
    return BertForSequenceClassification(config).eval()


BUILDS = {"decoder": (decoder, decoder_tokenizer), "encoder": (encoder, encoder_tokenizer)}


def scorer(kind: str) -> TextScorer:
    model, tokenizer = BUILDS[kind]
    return TextScorer(model(), tokenizer())


def save(folder: Path, kind: str, **settings: object) -> tuple[Path, PreTrainedTokenizerBase]:
    """Write a reward model as the hub holds one; `settings` go into its config.json."""
    model, tokenizer = (build() for build in BUILDS[kind])
    for name, value in settings.items():
        setattr(model.config, name, value)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder, tokenizer
