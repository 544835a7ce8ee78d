"""Whether the program is right on a model, asked before anything is trained.

    check_fit      from config, tokenizer and recipe: every stage of the run can use this model
    check_sampler  from the weights: what is recorded while sampling is what a plain pass computes

Each failure is one line with its remedy. Both take well under a second on a small model.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from align.config import Recipe, TrainerSection
from align.config.methods import METHODS
from align.data import chat
from align.data.rows import Message, spread
from align.maths.timeline import Sequences
from align.messages.errors import ConfigError
from align.models import quantized
from align.models.forward import policy_forward
from align.models.load import HEAD
from align.models.pretrained import Path_, checked_source, naming
from align.models.upcast import in_float32
from align.sampling.decoding import decoding_for
from align.sampling.sampler import Sample, collate, evaluating

BOUND = 1e-4
"""Nats between the sampler and the forward pass, in float32; rounding is at 1e-6 to 1e-5."""
LENGTHS = (3, 1, 13, 7)
"""Tokens of the prompts that are tried: unequal, so that three rows of four are padded."""
COPIES, STEPS, CUT_AT = 2, 6, 3
"""Rows of each prompt, tokens of each row, and the step after which half the rows are dropped."""
LOOKED_AT = 64
"""Prompts, evenly spaced, whose length is measured."""
FOREIGN_FAULTS = (
    *(AttributeError, IndexError, KeyError, NotImplementedError),
    *(RuntimeError, TypeError, ValueError),
)
"""What a model's own code raises at a cache or a mask that it was not written for."""
RESCALING = ("dynamic", "longrope")
"""Rotary positions that depend on the longest row of a batch once it passes the original limit."""


def check_fit(
    tokenizer: PreTrainedTokenizerBase,
    recipe: Recipe,
    stages: Collection[str],
    *,
    prompts: Mapping[str, Sequence[Sequence[Message]]] | None = None,
) -> None:
    """Refuse a model that a stage named in `stages` could not use.

    Args:
        prompts: conversations by their key under `data` (`prompts`, `evaluation`), where known.

    Raises:
        ConfigError: in one line.
    """
    source = recipe.model
    quantized.check(recipe, stages)
    config = _read_config(source.path, source.revision)
    chat.check_template(tokenizer)
    _check_stop(tokenizer, config)
    if "reward" in stages:
        _check_reward_architecture(config, source.path)
    _check_positions(config, tokenizer, recipe, stages, prompts or {})


def _check_stop(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
    """The stop token is one that the model can draw, and no padding."""
    stop = chat.stop_id(tokenizer)
    vocabulary = max(int(config.get_text_config().vocab_size), len(tokenizer))
    if not 0 <= stop < vocabulary:
        raise ConfigError(
            "the stop token is {stop}, and the model's vocabulary has {vocabulary} "
            "tokens, so no answer could end; give the tokenizer that belongs to the "
            "model",
            stop=stop,
            vocabulary=vocabulary,
        )
    if stop == tokenizer.pad_token_id:
        raise ConfigError(
            "pad_token={pad_token!r} is the stop token too, so that no stage could "
            "tell an end from padding; set another pad_token in tokenizer_config.json",
            pad_token=tokenizer.pad_token,
        )


def _check_reward_architecture(config: PreTrainedConfig, path: str) -> None:
    """transformers has a sequence classifier of this architecture, with a head we can read."""
    try:
        with torch.device("meta"):  # no memory for weights
            model = AutoModelForSequenceClassification.from_config(config)
    except FOREIGN_FAULTS:
        model = None
    if model is None or not isinstance(getattr(model, HEAD, None), torch.nn.Linear):
        raise ConfigError(
            "model.path={path!r}: transformers has no {model_type} model with a scalar "
            "head `{head}`, which the reward stage trains; choose another base model "
            "(Llama, Qwen, Gemma, Mistral, Phi, GPT-2 …), or name a trained reward "
            "model in ppo.reward_model",
            path=path,
            model_type=config.model_type,
            head=HEAD,
        )


def _check_positions(
    config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    recipe: Recipe,
    stages: Collection[str],
    prompts: Mapping[str, Sequence[Sequence[Message]]],
) -> None:
    """Rows, prompts and answers of the lengths that the recipe names fit into the model."""
    limit = positions(config)
    for name in stages:
        section = getattr(recipe, name, None)
        if not isinstance(section, TrainerSection) or limit is None:
            continue
        if section.max_length > limit:
            raise ConfigError(
                "{name}.max_length={max_length} is more than the {limit} positions of "
                "{path!r}; set {name}.max_length={limit}",
                name=name,
                max_length=section.max_length,
                limit=limit,
                path=recipe.model.path,
            )
    judge = "sft" if recipe.ppo.reward_model else "reward"
    answers = {}
    if judge not in recipe.parents and any(  # of a given one its own max_length counts
        method.name in stages and method.data == "prompts" for method in METHODS
    ):
        length = getattr(recipe, judge).max_length
        answers["ppo.max_new_tokens"] = (recipe.ppo.max_new_tokens, "prompts", length)
    if "evaluate" in stages and limit is not None:
        new = recipe.evaluate.max_new_tokens
        answers["evaluate.max_new_tokens"] = (new, "evaluation", limit)
    for key, (new, name, most) in answers.items():
        rows = prompts.get(name, ())
        some = [len(chat.prompt_ids(tokenizer, row)) for row in spread(rows, LOOKED_AT)]
        shortest = min(some, default=1)
        if shortest + new > most:
            raise ConfigError(
                "{key}={new} leaves {left} of {most} tokens for the prompt, and the "
                "shortest has {shortest}; lower it",
                key=key,
                new=new,
                left=max(0, most - new),
                most=most,
                shortest=shortest,
            )


def _read_config(path: Path_, revision: str | None) -> PreTrainedConfig:
    with naming(path, revision):
        return AutoConfig.from_pretrained(
            **checked_source(path, revision), revision=revision, trust_remote_code=False
        )


def read_positions(path: Path_, *, revision: str | None = None) -> int | None:
    """`positions` of a model whose weights are not loaded yet."""
    return positions(_read_config(path, revision))


def positions(config: PreTrainedConfig) -> int | None:
    """The longest row whose positions are the model's own; None where nothing bounds it."""
    text = config.get_text_config()
    limit = getattr(text, "max_position_embeddings", None)
    rope = getattr(text, "rope_parameters", None) or {}
    if rope.get("rope_type") in RESCALING:
        original = rope.get("original_max_position_embeddings")
        return original or getattr(text, "original_max_position_embeddings", None) or limit
    return limit


def check_sampler(model: PreTrainedModel) -> None:
    """Refuse a model whose cache gives other distributions than a plain forward pass.

    Prompts of unequal length are fed with padding before them, each is given COPIES rows, and half
    of the rows are dropped on the way: what sampling does. The plain pass has neither a cache nor
    a mask. Weights in bfloat16 are computed with in float32, so that one bound holds for all.

    Raises:
        ConfigError: in one line.
    """
    name = type(model).__name__
    try:
        with torch.inference_mode(), evaluating(model), in_float32(model):
            gap = sampler_gap(model)
    except torch.OutOfMemoryError:
        raise
    except FOREIGN_FAULTS as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            "{name} cannot be sampled from with a cache whose rows are repeated and "
            "dropped ({kind}: {reason}); choose another base model",
            name=name,
            kind=type(error).__name__,
            reason=reason,
        ) from error
    if not gap <= BOUND:
        raise ConfigError(
            "{name} samples from other distributions than its forward pass: {gap:.2g} "
            "nats apart, expected at most {bound:g}; choose another base model",
            name=name,
            gap=gap,
            bound=BOUND,
        )


def sampler_gap(model: PreTrainedModel) -> float:
    """Largest difference of any token's log-probability over all rows and steps, in nats."""
    generator = torch.Generator().manual_seed(0)
    embeddings: Any = model.get_input_embeddings()
    vocabulary = embeddings.weight.shape[0]

    def drawn(*shape: int) -> list[list[int]]:
        return torch.randint(vocabulary, shape, generator=generator).tolist()

    prompts = [drawn(1, length)[0] for length in LENGTHS]
    responses = drawn(len(prompts) * COPIES, STEPS)
    rows = [prompt for prompt in prompts for _ in range(COPIES)]
    samples = [Sample(response, False, []) for response in responses]
    whole = collate(rows, samples, pad_id=0, device=model.device)
    plain = policy_forward(model, whole).logits.unflatten(0, (len(rows), STEPS))
    return max(
        _distance(logits, plain[kept, step])
        for step, (kept, logits) in enumerate(_decoded(model, whole))
    )


def _decoded(model: PreTrainedModel, whole: Sequences) -> list[tuple[Tensor, Tensor]]:
    """The rows decoded at each step, and their logits [rows, v]; fed the responses of `whole`."""
    mask = whole.attention_mask[::COPIES, : whole.prompt_width]
    ids = whole.input_ids[::COPIES, : whole.prompt_width]
    decoding = decoding_for(model)(model, ids, mask, room=STEPS, copies=COPIES)
    kept = torch.arange(len(whole), device=ids.device)
    found = [(kept, decoding.logits.clone())]
    for step in range(STEPS - 1):
        if step == CUT_AT:
            odd = torch.arange(1, len(whole), 2, device=ids.device)
            decoding.keep(odd)
            kept = kept[odd]
        found.append((kept, decoding.step(whole.response_ids[kept, step]).clone()))
    return found


def _distance(logits: Tensor, expected: Tensor) -> float:
    """Largest difference of log-probabilities; a token that both rule out (−∞) is no difference."""
    one, other = (each.float().log_softmax(dim=-1) for each in (logits, expected))
    return torch.where(one == other, 0.0, (one - other).abs()).max().item()
