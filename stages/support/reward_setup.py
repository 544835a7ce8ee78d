"""What PPO and its baselines maximise: prompts that fit, what scores responses, its moments."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import NamedTuple, TypeVar

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from align.data import Instruction, Prompt, load_instructions, spread
from align.messages import say, tell
from align.messages.errors import ConfigError, DataError
from align.models import load as models
from align.runs.contract import StageContext
from align.scoring.own_function import OwnFunction
from align.scoring.retokenised import RetokenisedScorer
from align.scoring.reward_model import Conversation, RewardModel, TokenRewardModel
from align.scoring.text_scorer import TextScorer
from stages.support.reward_source import NORMALISED_OVER
from stages.support.training import TrainingSetup

Row = TypeVar("Row", Prompt, Instruction)


class RewardSetup(NamedTuple):
    rows: list[Prompt]
    """The prompts that the reward model reads whole."""
    scorer: RetokenisedScorer | None
    """An external reward model; None: the reward stage's, which reads the policy's tokens."""
    mean: float
    std: float
    """Of the raw score over demonstrations; 0 and 1 where scores are not normalised."""


def reward_setup(setup: TrainingSetup, rows: Sequence[Prompt]) -> RewardSetup:
    """Make ready what scores the answers to `rows`; a row that it cannot read is told of."""
    context, config = setup.context, setup.context.recipe.ppo
    model = external_reward_model(context)
    if model is None:
        return RewardSetup(list(rows), None, *moments(context, None))
    kept = readable(model, rows, "prompts", room=config.max_new_tokens)
    scorer = RetokenisedScorer(model, setup.tokenizer)
    return RewardSetup(kept, scorer, *moments(context, model))


def external_reward_model(context: StageContext) -> RewardModel | None:
    """The reward model that the recipe names, if it names one.

    A user's own is a Python file; to give the library another kind, its source in
    align/config/sources.py, its class in align/scoring/, and its line here.
    """
    recipe = context.recipe
    if (source := recipe.ppo.reward_model) is None:
        return None
    if source.is_function:
        return OwnFunction(source.path)
    return TextScorer.load(
        source.path,
        revision=source.revision,
        dtype=recipe.model.dtype,
        device=models.find_device(recipe.model.device),
        warn=context.tracker.note,
    )


def own_reward_model(
    context: StageContext, tokenizer: PreTrainedTokenizerBase, *, trained: bool = False
) -> PreTrainedModel:
    """The reward stage's model, which reads the policy's tokens.

    In the recipe's type; in float32 where `trained`: full weights of a critic start from it, and
    what is trained is float32 (TrainingSetup.load).
    """
    model = context.recipe.model
    return models.load_reward_model(
        context.parents["reward"].model,
        pad_id=int(tokenizer.pad_token_id),
        dtype="float32" if trained else model.dtype,
        device=models.find_device(model.device),
    )


def reward_model_of(
    context: StageContext, tokenizer: PreTrainedTokenizerBase, external: RewardModel | None
) -> RewardModel:
    """What scores the responses of an evaluation: as in PPO, the same one."""
    if external is not None:
        return external
    own = own_reward_model(context, tokenizer)
    return TokenRewardModel(own, pad_id=int(tokenizer.pad_token_id))


def moments(context: StageContext, model: RewardModel | None) -> tuple[float, float]:
    """Mean and standard deviation of the raw score over demonstrations.

    The reward stage publishes those of its model; an external one is asked here.
    """
    recipe = context.recipe
    if not recipe.ppo.normalise_reward:
        return 0.0, 1.0
    if model is None:
        handoff = context.parents["reward"].manifest
        assert handoff.reward_mean is not None and handoff.reward_std is not None
        return handoff.reward_mean, handoff.reward_std
    every = load_instructions(recipe.data.given("instructions"), warn=tell)
    rows = spread(every, NORMALISED_OVER)
    shown = readable(model, rows, "instructions")
    scores = model.score([Conversation([], list(row.messages)) for row in shown])
    mean, std = fmean(scores), pstdev(scores)
    if std == 0:
        raise ConfigError(
            "ppo.reward_model={path}: gives all {rows} rows of data.instructions the score "
            "{score:.4g}, so there is no scale to put scores on; give "
            "ppo.normalise_reward=false",
            path=model.name,
            rows=len(shown),
            score=mean,
        )
    return mean, std


def readable(model: RewardModel, rows: Sequence[Row], name: str, *, room: int = 0) -> list[Row]:
    """The rows whose conversation a reward model can read whole, with `room` more tokens."""
    kept = [row for row in rows if model.fits(row.messages, room=room)]
    told = say(
        "longer than the {limit} tokens that {name} reads", limit=model.limit, name=model.name
    )
    told += say(", {room} of them for the answer", room=room) if room else ""
    if not kept:
        raise DataError(
            "data.{name}: all {rows} rows are {told}; shorten them",
            name=name,
            rows=len(rows),
            told=told,
        )
    if len(kept) < len(rows):
        tell(
            say(
                "data.{name}: left out {count} rows {told}",
                name=name,
                count=len(rows) - len(kept),
                told=told,
            )
        )
    return kept
