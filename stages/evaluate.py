"""Answer held-out prompts with every policy and say how good the answers are.

    python -m stages.evaluate stages/recipes/tiny.yaml policies='[base, sft, dpo]'

Writes summary.json (every number with its interval and n), summary.txt (the table) and
samples.jsonl (every answer with its scores). 1 read prompts and pairs · 2 answer, one policy in
memory at a time · 3 score with the reward model, which picks for best_of_n · 4 score the held-out
pairs · 5 summarise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from align.config import DataSource, Recipe
from align.config.methods import ALIGNED, BEST_OF_N, POLICIES
from align.messages import doing, say, visible
from align.runs.checkpoints import Saved
from align.runs.contract import Stage, StageContext, StageResult
from align.runs.runner import main
from align.runs.threads import set_threads
from stages.support import reward_source
from stages.support.libraries import load_libraries

if TYPE_CHECKING:
    from align.evaluation.evaluation_set import EvaluationSet, Generations, Responses
    from align.evaluation.pairs import Pairs
    from align.evaluation.reward_card import ScoredPair
    from align.scoring.reward_model import RewardModel

TEXT = "summary.txt"
SAID_ONLY = {"evaluate.policies", "evaluate.bootstrap", "evaluate.showcase"}
"""Settings that change no answer and no score."""


def parents(recipe: Recipe) -> tuple[str, ...]:
    """SFT is the reference, PPO's reward model a judge; the base comes from the recipe."""
    aligned = [name for name in recipe.evaluate.policies if name in ALIGNED]
    return (*reward_source.parents(recipe), *aligned)


def data(recipe: Recipe) -> dict[str, DataSource | None]:
    sources = {"evaluation": recipe.data.evaluation}
    if recipe.data.preferences_heldout is not None:
        sources["preferences_heldout"] = recipe.data.preferences_heldout
        if recipe.data.preferences is not None:  # to leave out pairs that were trained on
            sources["preferences"] = recipe.data.preferences
    return sources


def run(context: StageContext) -> StageResult:
    load_libraries(("evaluate",))

    from align.evaluation.evaluation_set import Generations
    from align.evaluation.record import provenance, summary_of, write
    from align.evaluation.reward_card import reward_card
    from align.evaluation.summary import headlines
    from align.models import load as models
    from align.models.vocabulary import fit_embeddings
    from align.report.terminal import table
    from stages.support.reward_setup import external_reward_model, reward_model_of

    recipe, config = context.recipe, context.recipe.evaluate
    set_threads(recipe.model.threads)  # torch is loaded now, as where stages train
    tokenizer = models.load_tokenizer(context.parents["sft"].model)

    # 1 read prompts and pairs
    sft = _load(context, "sft")
    external = external_reward_model(context)
    evaluation_set, pairs = _read(context, tokenizer, sft, external)
    context.confirm()

    # 2 answer, one policy in memory at a time
    fit_embeddings(sft, tokenizer)
    stop_ids = models.stop_ids(tokenizer, sft)
    generations = _generate(context, evaluation_set, sft, stop_ids)
    pool = _draw(context, evaluation_set, sft, stop_ids) if BEST_OF_N in config.policies else None
    device = str(sft.device)
    del sft

    # 3 score with the reward model
    reward_model = reward_model_of(context, tokenizer, external)
    context.confirm(data=False)
    _reward(context, evaluation_set, generations, pool, reward_model)
    if pool is not None:  # greedy answers are equal, and so is the best of them
        generations[BEST_OF_N] = Generations(
            pool.best_of(config.best_of_n), generations["sft"].greedy
        )
        generations = {name: generations[name] for name in config.policies}

    # 4 score the held-out pairs
    card = None
    if pairs.kept:
        scored = _score(context, pairs, reward_model)
        card = reward_card(scored, resamples=config.bootstrap, seed=context.seed)

    # 5 summarise
    origin = provenance(recipe, context.out.parent.name, context.parents, device)
    left_out = pairs.left_out
    with doing(say("summarising")):
        summary = summary_of(
            evaluation_set, generations, pool, card, pairs_left_out=left_out, provenance=origin
        )
    write(context.out, summary, evaluation_set.rows(generations))
    (context.out / TEXT).write_text(visible(table(summary)) + "\n", encoding="utf-8")
    return StageResult(metrics=headlines(summary))


def _read(
    context: StageContext, tokenizer: Any, sft: Any, external: RewardModel | None
) -> tuple[EvaluationSet, Pairs]:
    """Prompts and held-out pairs that policy and reward model have room for."""
    from align.evaluation.evaluation_set import read_evaluation_set
    from align.evaluation.pairs import read_pairs
    from align.sampling.self_check import positions

    config, data = context.recipe.evaluate, context.recipe.data
    limit = positions(sft.config)
    fits = None if external is None else external.fits
    room = None if external is None else partial(external.fits, room=config.max_new_tokens)
    evaluation_set = read_evaluation_set(
        data.given("evaluation"), tokenizer, config, limit=limit, seed=context.seed, fits=room
    )
    heldout, trained = data.preferences_heldout, data.preferences
    return evaluation_set, read_pairs(heldout, trained, tokenizer, limit=limit, fits=fits)


def _generate(
    context: StageContext, evaluation_set: EvaluationSet, sft: Any, stop_ids: list[int]
) -> dict[str, Generations]:
    """Let every model answer; show how it did as soon as that is known."""
    from align.models.vocabulary import fit_embeddings

    def answers(name: str) -> dict[str, Any]:
        policy = sft if name == "sft" else _load(context, name)
        context.confirm(data=False)
        fit_embeddings(policy, evaluation_set.tokenizer)
        return evaluation_set.answers(policy, sft, stop_ids=stop_ids)

    generations = {}
    names = [name for name in context.recipe.evaluate.policies if name != BEST_OF_N]
    for step, name in enumerate(names, start=1):
        given = _part(context, f"answers of {name}", partial(answers, name), of=("sft", name))
        generations[name] = evaluation_set.judged(given)
        means = generations[name].sampled.means()
        metrics = {f"evaluate/{key}/{name}": value for key, value in means.items()}
        context.tracker.log(step, metrics, total=len(names))
    return generations


def _draw(
    context: StageContext, evaluation_set: EvaluationSet, sft: Any, stop_ids: list[int]
) -> Responses:
    drawn = partial(evaluation_set.drawn, sft, stop_ids=stop_ids)
    return evaluation_set.responses(_part(context, f"answers of {BEST_OF_N}", drawn, of=("sft",)))


def _reward(
    context: StageContext,
    evaluation_set: EvaluationSet,
    generations: dict[str, Generations],
    pool: Responses | None,
    reward_model: RewardModel,
) -> None:
    """Add the rewards to all answers."""
    given = {name: list(both) for name, both in generations.items()}
    if pool is not None:
        given[BEST_OF_N] = [pool]

    def rewards(name: str) -> list[list[list[float]]]:
        return [evaluation_set.rewards(responses, reward_model) for responses in given[name]]

    for name, both in given.items():
        of = ("sft", "reward", name)
        scores = _part(context, f"scores of {name}", partial(rewards, name), of=of)
        for responses, its in zip(both, scores, strict=True):
            responses.reward = its


def _score(context: StageContext, pairs: Pairs, reward_model: RewardModel) -> list[ScoredPair]:
    from align.evaluation.pairs import score_pairs
    from align.evaluation.reward_card import ScoredPair

    def scores() -> list[dict[str, Any]]:
        batch_size = context.recipe.evaluate.batch_size
        return list(map(asdict, score_pairs(pairs.kept, reward_model, batch_size=batch_size)))

    scored = _part(context, "scores of held-out pairs", scores, of=("sft", "reward"))
    return [ScoredPair(**pair) for pair in scored]


def _part(context: StageContext, name: str, make: Callable[[], Any], *, of: Collection[str]) -> Any:
    """Make a part of the result, or take it from an evaluation that was broken off.

    Args:
        of: the stages whose models decide it.
    """

    def decides(key: str) -> bool:
        section, _, rest = key.partition(".")
        return rest.partition(".")[0] in of if section == "parents" else key not in SAID_ONLY

    if context.checkpoints is None:
        return make()
    return context.checkpoints.part(name, lambda: Saved({}, make()), decides=decides).values


def _load(context: StageContext, name: str) -> Any:
    from align.models import load as models

    model = context.recipe.model
    path, revision = model.path, model.revision
    if name != "base":
        path, revision = str(context.parents[name].model), None
    device = models.find_device(model.device)
    return models.load_causal_lm(path, revision=revision, dtype=model.dtype, device=device)


STAGE = Stage(
    name="evaluate",
    section="evaluate",
    resumes=True,
    parents=parents,
    data=data,
    models=reward_source.external_models,
    run=run,
    unread=("showcase",),  # the report's
    headline=tuple(f"evaluate/gold/{name}" for name in POLICIES),
    text=TEXT,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
