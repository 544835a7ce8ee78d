"""Loading, adapting and scoring with the models of the four roles.

Weights come from safetensors only and no model's own code is ever run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from align.config import LoraSection
from align.data import chat
from align.data.templates import give_template
from align.messages import counted, say
from align.messages.errors import ConfigError
from align.models import quantized
from align.models.forward import ScoreHead, last_token_scores
from align.models.pretrained import Path_, load_weights, naming, refuse_unread, source

Task = Literal["causal", "reward"]
HEAD = "score"
"""Name of the reward head in every `…ForSequenceClassification` of transformers that we use."""


def find_device(device: str = "auto") -> torch.device:
    """CUDA if there is one, else the CPU; or what the recipe names."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "model.device=cuda, but torch finds no CUDA device; use model.device=auto"
        )
    return torch.device(device)


def find_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on CUDA and float32 on the CPU."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]


class ReadTokenizer(NamedTuple):
    """A tokenizer with a chat template, and what it was given to have one."""

    tokenizer: PreTrainedTokenizerBase
    template: str | None
    """Name or file of the chat template; None: its own."""
    new_tokens: tuple[str, ...]
    """Control tokens of the template that were added."""


def load_tokenizer(
    path: Path_, *, revision: str | None = None, chat_template: str | None = None
) -> PreTrainedTokenizerBase:
    """Load a tokenizer, see `read_tokenizer`."""
    return read_tokenizer(path, revision=revision, chat_template=chat_template).tokenizer


def read_tokenizer(
    path: Path_, *, revision: str | None = None, chat_template: str | None = None
) -> ReadTokenizer:
    """Load a tokenizer that has a chat template, and whose pad token is not its stop token.

    Args:
        chat_template: the one to give it (align/data/templates.py); None: its own, else `plain`.

    A sequence classifier of transformers reads its score at the last token that is not the pad
    token; with pad == stop it would read the token *before* the stop token. Such a tokenizer gets
    another of its own special tokens as padding, or a new `<|pad|>`.
    """
    with naming(path, revision):
        tokenizer = AutoTokenizer.from_pretrained(
            **source(path), revision=revision, trust_remote_code=False, padding_side="left"
        )
        float(tokenizer.model_max_length)  # every text is compared with it
    given = give_template(tokenizer, chat_template)
    stops = {tokenizer.eos_token_id, chat.stop_id(tokenizer)}
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id in stops:
        special = [
            added.content for added in tokenizer.added_tokens_decoder.values() if added.special
        ]
        spare = [t for t in special if tokenizer.convert_tokens_to_ids(t) not in stops]
        padlike = [t for t in spare if "pad" in t.lower() or "reserved" in t.lower()]
        tokenizer.add_special_tokens({"pad_token": [*padlike, *spare, "<|pad|>"][0]})
    return ReadTokenizer(tokenizer, given.name, given.new_tokens)


def load_causal_lm(
    path: Path_,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: torch.device,
    in_4bit: torch.dtype | None = None,
) -> PreTrainedModel:
    """Load a language model, in evaluation mode.

    Args:
        in_4bit: type that linear layers held in four bits compute in; None: they are not.
    """
    model, info = load_weights(
        AutoModelForCausalLM,
        path,
        revision=revision,
        dtype=find_dtype(dtype, device),
        **quantized.settings(in_4bit, device),
    )
    refuse_unread(path, info)
    text_config = model.config.get_text_config()
    if hasattr(text_config, "output_router_logits"):
        # TRL asks for the router's loss call by call, and leaves this on in the config it saves; a
        # step with a cache would then compute that loss over a mask of another width, and fail.
        text_config.output_router_logits = False
    return _placed(model, device)


def load_reward_model(
    path: Path_,
    *,
    pad_id: int,
    revision: str | None = None,
    dtype: str = "auto",
    device: torch.device,
    seed: int = 0,
    in_4bit: torch.dtype | None = None,
) -> PreTrainedModel:
    """Load a scalar scorer, from a reward model or from a language model that has no head yet.

    Args:
        in_4bit: as in `load_causal_lm`.

    A new head is drawn from N(0, 1/√(d+1)) with `seed` and has no bias.
    Source: Stiennon 2020, arXiv:2009.01325 (released code); Huang 2024, arXiv:2403.17031.
    """
    model, info = load_weights(
        AutoModelForSequenceClassification,
        path,
        revision=revision,
        dtype=find_dtype(dtype, device),
        num_labels=1,
        **quantized.settings(in_4bit, device),
    )
    head = getattr(model, HEAD, None)
    if head is None:
        raise ConfigError(
            "{model} keeps its head under another name than `{head}`; use a decoder "
            "such as Llama, Qwen, Gemma, Mistral or GPT-2 for the reward model",
            model=type(model).__name__,
            head=HEAD,
        )
    refuse_unread(path, info, new=HEAD)
    if info["missing_keys"]:
        noise = torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            head.weight.copy_(noise / (head.in_features + 1) ** 0.5)
    head.__class__ = ScoreHead  # the weights, and what else holds them, stay as they are
    model.config.get_text_config().pad_token_id = pad_id
    model.config.pad_token_id = pad_id
    return _placed(model, device)


def _placed(model: Any, device: torch.device) -> PreTrainedModel:
    quantized.settle(model)
    return model.to(device).eval()


def lora_config(
    lora: LoraSection, *, task: Task, rows: dict[str, list[int]] | None = None
) -> LoraConfig:
    """PEFT's configuration of an adapter; a reward adapter trains and carries the head as well.

    Args:
        rows: token rows to train as they are, by the name of the embedding or head that has them.
    """
    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # a fraction works as well
        lora_dropout=lora.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM" if task == "causal" else "SEQ_CLS",
        modules_to_save=[HEAD] if task == "reward" else None,
        trainable_token_indices=rows or None,
    )


def add_lora(model: PreTrainedModel, lora: LoraSection, *, task: Task) -> PeftModel:
    """Wrap a model in a fresh adapter, which leaves its outputs as they are."""
    return get_peft_model(model, lora_config(lora, task=task))


def merge(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """Fold an adapter into its base weights; a full model is returned as it is."""
    quantized.make_dense(model)
    return model.merge_and_unload() if isinstance(model, PeftModel) else model


def disable_dropout(model: torch.nn.Module) -> None:
    """Switch every dropout off: modules, LoRA's own, and the rates attention reads as numbers."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout", "dropout_p", "activation_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
        config = getattr(module, "config", None)
        if isinstance(config, transformers.PreTrainedConfig):
            for name, value in vars(config).items():
                if isinstance(value, float) and ("dropout" in name or name.endswith("_pdrop")):
                    setattr(config, name, 0.0)


def stop_ids(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> list[int]:
    """Every token that ends a response: the chat template's, then what the model itself lists."""
    config = model.generation_config
    listed = config.eos_token_id if config is not None else None
    listed = listed if isinstance(listed, list) else [listed]
    ids = [chat.stop_id(tokenizer), tokenizer.eos_token_id, *listed]
    return list(dict.fromkeys(token for token in ids if token is not None))


@torch.no_grad()
def reward_scores(
    model: PreTrainedModel | PeftModel,
    sequences: Sequence[Sequence[int]],
    *,
    pad_id: int,
    batch_size: int = 64,
) -> list[float]:
    """Score token sequences with a reward model, reading each at its own last token.

    The position comes from the length, so it is right whatever the last token is.
    """
    scorer: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    trunk, head = getattr(scorer, scorer.base_model_prefix), getattr(scorer, HEAD)
    model.eval()
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    scores = [0.0] * len(sequences)
    for start in counted(range(0, len(order), batch_size), say("scoring")):
        rows = order[start : start + batch_size]
        lengths = torch.tensor([len(sequences[i]) for i in rows])
        ids = torch.full((len(rows), int(lengths.max())), pad_id)
        for row, i in enumerate(rows):
            ids[row, : lengths[row]] = torch.tensor(sequences[i])
        found = last_token_scores(trunk, head, ids.to(scorer.device), lengths.to(scorer.device))
        for i, one in zip(rows, found.tolist(), strict=True):
            scores[i] = one
    return scores
