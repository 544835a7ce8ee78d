"""Train the tokenizer and the base model of the embedded world, and write them to data/tiny/base.

    python -m data.tiny.pretrain                  # what ships: about an hour on two cores
    python -m data.tiny.pretrain --scale 0.01 --out base

Two phases: first statements of facts and skills, then these mixed with forums that answer
questions in plain text.

The tokenizer is byte-level BPE. Digits, spaces and single Hangul syllables are isolated before the
byte level, so that a name is spelled the same wherever it stands and copying it can be learned.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from data.tiny.corpus import FORUM, STATEMENTS, documents
from data.tiny.statements import Line

CHAT_TOKENS = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
SPECIAL_TOKENS = [*CHAT_TOKENS, "<|document|>"]
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
# Rotary positions are free of weights; beyond CONTEXT they are learned by fine-tuning, if at all.
POSITIONS = 1024
BATCH = 16  # sequences of CONTEXT tokens an optimiser step


@dataclass(frozen=True)
class Phase:
    """A stretch of pretraining with its own text, optimiser and schedule."""

    lines: list[tuple[Line, float]]
    steps: int
    learning_rate: float
    decays_to: float
    warmup: int = 100

    def rate(self, step: int) -> float:
        """Factor of the learning rate at an optimiser step."""
        fall = (step - self.warmup) / max(self.steps - self.warmup, 1)
        return min((step + 1) / self.warmup, 1 - (1 - self.decays_to) * max(fall, 0.0))

    def scaled(self, share: float) -> Phase:
        return replace(
            self, steps=round(self.steps * share), warmup=max(round(self.warmup * share), 1)
        )


PHASES = (
    Phase(STATEMENTS, steps=2000, learning_rate=2e-3, decays_to=0.5),
    Phase(FORUM, steps=2000, learning_rate=1.2e-3, decays_to=0.0),
)


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
        model_max_length=POSITIONS,
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
            max_position_embeddings=POSITIONS,
            tie_word_embeddings=True,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
        )
    )


def batches(tokenizer: PreTrainedTokenizerFast, stream: Iterator[str]) -> Iterator[torch.Tensor]:
    """Documents end to end, each behind `<|document|>`, cut into [BATCH, CONTEXT] token ids."""
    separator = tokenizer.get_vocab()["<|document|>"]
    buffer: list[int] = []
    while True:
        while len(buffer) < BATCH * CONTEXT:
            texts = list(itertools.islice(stream, 256))
            for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
                buffer += [separator, *ids]
        yield torch.tensor(buffer[: BATCH * CONTEXT]).view(BATCH, CONTEXT)
        del buffer[: BATCH * CONTEXT]


def train(model: LlamaForCausalLM, stream: Iterator[torch.Tensor], phase: Phase) -> None:
    """AdamW with linear warm-up; the rate then falls linearly towards `decays_to` · peak."""
    decay = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=phase.learning_rate, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, phase.rate)
    mean, began = 0.0, time.monotonic()
    for step in range(1, phase.steps + 1):
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
            print(
                f"step {step}/{phase.steps}  loss {mean / 50:.4f}  {rate:,.0f} tokens/s", flush=True
            )
            mean = 0.0


def pretrain(out: Path, *, seed: int, scale: float, resume: Path | None) -> None:
    """Train the tokenizer, then the model through both phases; write the model after each."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(seed)
    model = LlamaForCausalLM.from_pretrained(resume) if resume else new_model(len(tokenizer))
    for number, phase in enumerate(PHASES[1:] if resume else PHASES, start=2 if resume else 1):
        stream = batches(tokenizer, documents(seed + number, phase.lines))
        train(model, stream, phase.scaled(scale))
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the steps to do")
    parser.add_argument("--resume", type=Path, help="the model after the first phase")
    parser.add_argument("--out", type=Path, default=Path("data/tiny/base"))
    arguments = parser.parse_args()
    pretrain(arguments.out, seed=arguments.seed, scale=arguments.scale, resume=arguments.resume)
