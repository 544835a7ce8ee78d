"""Whether the model, each stage's settings and its adapters can be used, before the first stage."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from align.config import Recipe
from align.config.methods import TRL
from align.data import chat
from align.models import load as models
from align.models.adapters import check_targets
from align.models.vocabulary import fit_embeddings
from align.sampling.self_check import check_fit, check_sampler, read_positions
from stages.preflight.rows import Rows
from stages.support import trl
from stages.support.baselines import ANSWERS, as_in_ppo
from stages.support.ppo_roles import check_layout

PROMPTED = ("prompts", "evaluation")


def going_on(recipe: Recipe, sft: Path) -> Recipe:
    """The recipe where SFT need not run: the model of all stages is the policy in this folder."""
    start = {"path": str(sft), "revision": None, "chat_template": None}
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=start)})


def check_tokenizer(recipe: Recipe, stages: Sequence[str], rows: Rows) -> PreTrainedTokenizerBase:
    """The tokenizer that all stages will have; refuse a model or rows that a stage cannot use.

    Args:
        stages: that will run.
    """
    model = recipe.model
    models.find_device(model.device)
    tokenizer = models.load_tokenizer(
        model.path, revision=model.revision, chat_template=model.chat_template
    )
    chat.check_rows(tokenizer, [row for its in rows.values() for row in its])
    prompts = {name: [row.messages for row in rows[name]] for name in PROMPTED if rows.get(name)}
    check_fit(tokenizer, recipe, stages, prompts=prompts)
    return tokenizer


def check_settings(recipe: Recipe, stages: Collection[str]) -> None:
    """Refuse what TRL's classes refuse together, and roles that cannot share a base."""
    for name in stages:
        if name in TRL:
            module = importlib.import_module(f"trl.trainer.{TRL[name].lower()}_config")
            given = getattr(recipe, name).trainer
            if name in ANSWERS:
                given = as_in_ppo(name, recipe.ppo) | given
            device = models.find_device(recipe.model.device)
            trl.check_settings(getattr(module, f"{TRL[name]}Config"), name, given, device)
    if "ppo" in stages:
        adapted = recipe.ppo.reward_model is not None or recipe.reward.lora is not None
        check_layout(recipe.ppo, adapted="reward" in recipe.parents or adapted)


def limit(recipe: Recipe) -> int | None:
    """The longest row that the model has positions for."""
    return read_positions(recipe.model.path, revision=recipe.model.revision)


def load(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Load the weights that the run starts from; refuse those that are not right."""
    model: Any = models.load_causal_lm(
        recipe.model.path,
        revision=recipe.model.revision,
        dtype=recipe.model.dtype,
        device=models.find_device(recipe.model.device),
    )
    for key, lora in recipe.adapters.items():
        check_targets(model, lora, key=key)
    with torch.no_grad():
        fit_embeddings(model, tokenizer)
    check_sampler(model)
    return model
