"""Answer held-out prompts with every policy and say how good the answers are.

    python -m stages.evaluate stages/recipes/tiny.yaml policies='[base, sft, dpo]'

Writes summary.json (every number with its interval and n), summary.txt (the table) and
samples.jsonl (every answer with its scores). 1 read prompts and pairs · 2 answer, one policy in
memory at a time · 3 score with the reward model · 4 score the held-out pairs · 5 summarise.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from align.config import DataSource, EvaluateConfig, Recipe
from stages.runner import Stage, StageContext, StageResult, main

if TYPE_CHECKING:
    from align.evaluation.exam import Exam, Sheet


TEXT = "summary.txt"


def parents(recipe: Recipe) -> tuple[str, ...]:
    """SFT is the reference, the reward model a judge; the base comes from the recipe."""
    trained = [name for name in recipe.evaluate.policies if name not in ("base", "sft")]
    return ("sft", "reward", *trained)


def data(recipe: Recipe) -> dict[str, DataSource | None]:
    sources = {"evaluation": recipe.data.evaluation}
    if recipe.data.preferences_heldout is not None:
        sources["preferences_heldout"] = recipe.data.preferences_heldout
    return sources


def run(context: StageContext) -> StageResult:
    from align import models
    from align.evaluation.exam import read_exam, read_pairs, score_pairs
    from align.evaluation.reward_card import reward_card
    from align.evaluation.summary import FORMAT, summarise
    from align.report.terminal import table

    recipe, config = context.recipe, context.recipe.evaluate
    device = models.find_device(recipe.model.device)
    tokenizer = models.load_tokenizer(context.parents["sft"].model)

    # 1 read prompts and pairs
    sft = _load(context, "sft", device)
    limit = getattr(sft.config, "max_position_embeddings", None)
    assert recipe.data.evaluation is not None
    exam = read_exam(recipe.data.evaluation, tokenizer, config, limit=limit, seed=context.seed)
    pairs = read_pairs(recipe.data.preferences_heldout, tokenizer, limit=limit)

    # 2 answer, one policy in memory at a time
    sheets = {}
    for step, name in enumerate(config.policies, start=1):
        policy = sft if name == "sft" else _load(context, name, device)
        models.fit_embeddings(policy, tokenizer)
        sheets[name] = exam.sit(policy, sft, stop_ids=models.stop_ids(tokenizer, sft))
        _log(context, step, name, sheets[name], config)
        del policy
    del sft

    # 3 score with the reward model
    pad_id = tokenizer.pad_token_id
    judge = models.load_reward_model(
        context.parents["reward"].model, pad_id=pad_id, dtype=recipe.model.dtype, device=device
    )

    def score(sequences: list[list[int]]) -> list[float]:
        return models.reward_scores(judge, sequences, pad_id=pad_id, batch_size=config.batch_size)

    for sheet in sheets.values():
        exam.reward(sheet, score)

    # 4 score the held-out pairs
    card = reward_card(score_pairs(pairs.kept, score)) if pairs.kept else None

    # 5 summarise
    found = summarise(
        [prompt.extra for prompt in exam.prompts],
        {name: sheet.sampled.numbers() for name, sheet in sheets.items()},
        {name: sheet.greedy.numbers() for name, sheet in sheets.items()},
        resamples=config.bootstrap,
        seed=context.seed,
    )
    summary = {
        "format": FORMAT,
        "provenance": _provenance(context, str(device)),
        "setup": {
            "prompts": found["prompts"],
            "left_out": {"prompts": exam.left_out, "pairs": pairs.left_out},
            **config.model_dump(mode="json", exclude={"max_prompts", "showcase"}),
        },
        "policies": found["policies"],
        "reward_model": card,
    }
    _write(context, summary, exam, sheets)
    (context.out / TEXT).write_text(table(summary) + "\n", encoding="utf-8")
    return StageResult(metrics=_metrics(summary))


def _load(context: StageContext, name: str, device: Any) -> Any:
    from align import models

    model = context.recipe.model
    path, revision = model.path, model.revision
    if name != "base":
        path, revision = str(context.parents[name].model), None
    return models.load_causal_lm(path, revision=revision, dtype=model.dtype, device=device)


def _log(context: StageContext, step: int, name: str, sheet: Sheet, config: EvaluateConfig) -> None:
    """Show how a policy did as soon as it is known."""
    numbers = sheet.sampled.means()
    metrics = {f"evaluate/{key}/{name}": value for key, value in numbers.items()}
    context.tracker.log(step, metrics, total=len(config.policies))


def _provenance(context: StageContext, device: str) -> dict[str, Any]:
    from importlib.metadata import version

    handoff = context.parents["sft"].manifest
    return {
        "run": context.out.parent.name,
        "recipe": context.recipe.name,
        "seed": context.seed,
        "date": datetime.now(UTC).date().isoformat(),
        "device": device,
        "base_model": context.recipe.model.path.rstrip("/").rpartition("/")[2],
        "base_revision": context.recipe.model.revision,
        "fingerprints": {n: parent.manifest.fingerprint for n, parent in context.parents.items()},
        "tokenizer_hash": handoff.tokenizer_hash,
        "template_hash": handoff.template_hash,
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "peft")},
    }


def _write(
    context: StageContext, summary: dict[str, Any], exam: Exam, sheets: dict[str, Sheet]
) -> None:
    text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)
    (context.out / "summary.json").write_text(text + "\n", encoding="utf-8")
    with (context.out / "samples.jsonl").open("w", encoding="utf-8") as file:
        for row in exam.rows(sheets):
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def _metrics(summary: dict[str, Any]) -> dict[str, Any]:
    """The handful of numbers that the manifest repeats."""
    metrics: dict[str, Any] = {}
    for name, policy in summary["policies"].items():
        for key in ("gold", "reward"):
            if policy[key] is not None:
                metrics[f"evaluate/{key}/{name}"] = policy[key]["all"]["mean"]
        metrics[f"evaluate/kl_sequence/{name}"] = policy["kl_sequence"]["mean"]
    if summary["reward_model"] is not None:
        metrics["evaluate/accuracy/reward"] = summary["reward_model"]["accuracy"]["mean"]
    return metrics


STAGE = Stage(
    name="evaluate",
    section="evaluate",
    parents=parents,
    data=data,
    run=run,
    headline=tuple(f"evaluate/gold/{name}" for name in ("base", "sft", "dpo", "ppo")),
    text=TEXT,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
