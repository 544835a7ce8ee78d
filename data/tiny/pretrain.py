"""Train the tokenizer and the base model of the embedded world, and write them to data/tiny/base.

    python -m data.tiny.pretrain                  # what ships: 4,000 steps, an hour on a core
    python -m data.tiny.pretrain --steps 20 --out /tmp/base

The tokenizer is byte-level BPE. Digits, spaces and single Hangul syllables are isolated before the
byte level, so that a name is spelled the same wherever it stands and copying it can be learned.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from data.tiny.corpus import documents

SPECIAL_TOKENS = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|document|>"]
PIECES = r"[가-힣]|[0-9]|\s|[A-Za-z]+|[^\sA-Za-z0-9가-힣]+"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "<|assistant|>{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% else %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
VOCAB_SIZE = 1408
CONTEXT = 256
BATCH = 16  # sequences of CONTEXT tokens an optimiser step
LEARNING_RATE = 2e-3
WARMUP = 100


def train_tokenizer(seed: int, count: int = 40_000) -> PreTrainedTokenizerFast:
    """Byte-level BPE on the first `count` documents of the corpus."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(itertools.islice(documents(seed), count), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def new_model(vocab_size: int) -> LlamaForCausalLM:
    """A Llama of 1.9 M parameters."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=192,
            intermediate_size=448,
            num_hidden_layers=4,
            num_attention_heads=6,
            num_key_value_heads=6,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
        )
    )


def batches(tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[torch.Tensor]:
    """Documents end to end, each behind `<|document|>`, cut into [BATCH, CONTEXT] token ids."""
    separator = tokenizer.convert_tokens_to_ids("<|document|>")
    stream = documents(seed)
    buffer: list[int] = []
    while True:
        while len(buffer) < BATCH * CONTEXT:
            texts = list(itertools.islice(stream, 256))
            for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
                buffer += [separator, *ids]
        yield torch.tensor(buffer[: BATCH * CONTEXT]).view(BATCH, CONTEXT)
        del buffer[: BATCH * CONTEXT]


def pretrain(out: Path, *, steps: int, seed: int) -> None:
    """AdamW, linear warm-up and linear decay to zero."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(seed)
    model = new_model(len(tokenizer))
    decay = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: min((s + 1) / WARMUP, max(0.0, (steps - s) / (steps - WARMUP)))
    )
    stream, mean, began = batches(tokenizer, seed + 1), 0.0, time.monotonic()
    for step in range(1, steps + 1):
        ids = next(stream)
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        mean += loss.item()
        if step % 50 == 0:
            rate = step * BATCH * CONTEXT / (time.monotonic() - began)
            print(f"step {step}/{steps}  loss {mean / 50:.4f}  {rate:,.0f} tokens/s", flush=True)
            mean = 0.0
        if step % 500 == 0 or step == steps:
            model.save_pretrained(out)
            tokenizer.save_pretrained(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("data/tiny/base"))
    arguments = parser.parse_args()
    pretrain(arguments.out, steps=arguments.steps, seed=arguments.seed)
