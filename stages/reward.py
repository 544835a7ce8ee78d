"""Reward model: preference pairs to a scorer that starts from the SFT policy.

    python -m stages.reward stages/recipes/tiny.yaml trainer.num_train_epochs=1

Reads data.preferences and, to measure accuracy, data.preferences_heldout. The score is read at the
stop token, in training as in PPO. PPO scales it by its mean and standard deviation over
demonstrations (data.instructions): answers the scorer was not trained on, so that a score of 0
means as good as a demonstration (Huang 2024, arXiv:2403.17031).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, pstdev

from align.config import DataSource, Recipe
from align.data import (
    Instruction,
    Preference,
    load_instructions,
    load_preferences,
    spread,
    with_unseen_prompts,
)
from align.messages import say, tell
from align.runs.contract import Stage, StageContext, StageResult
from align.runs.runner import main
from stages.support.libraries import load_libraries
from stages.support.reward_source import NORMALISED_OVER


def data(recipe: Recipe) -> dict[str, DataSource | None]:
    sources = {"preferences": recipe.data.preferences, "instructions": recipe.data.instructions}
    if recipe.data.preferences_heldout is not None:
        sources["preferences_heldout"] = recipe.data.preferences_heldout
    return sources


def run(context: StageContext) -> StageResult:
    # 1. Read and check the rows, before anything heavy is loaded.
    pairs, demonstrations, heldout = _read(context.recipe)

    load_libraries(("reward",))

    from trl import RewardConfig, RewardTrainer

    from align.data import chat
    from align.models import load as models
    from align.scoring import text_scorer
    from stages.support import trl as support
    from stages.support.encoded import encode_pairs
    from stages.support.training import TrainingSetup

    # 2. Encode.
    setup = TrainingSetup.of(context, "reward")
    kept, encoded = encode_pairs(setup, pairs, "preferences")
    examples = [
        {
            "chosen_ids": row["prompt_ids"] + row["chosen_ids"],
            "rejected_ids": row["prompt_ids"] + row["rejected_ids"],
            "length": row["length"],
        }
        for row in encoded
    ]

    # 3. Train.
    model = setup.load("reward")
    models.disable_dropout(model)
    setattr(model.config, text_scorer.SCORE_AT, text_scorer.STOP)
    trainer = support.trainer(
        RewardTrainer, RewardConfig, setup, examples, task="reward", model=model
    )
    with support.prompts_shared(trainer):
        metrics = support.fit(trainer, setup)
    metrics |= {"reward/data/rows": len(pairs), "reward/data/too_long": len(pairs) - len(kept)}

    # 4. Measure: scale over demonstrations, accuracy on held-out pairs.
    def score(sequences: Sequence[Sequence[int]]) -> list[float]:
        return models.reward_scores(trainer.model, sequences, pad_id=setup.tokenizer.pad_token_id)

    some = spread(demonstrations, NORMALISED_OVER)
    shown = [chat.encode(setup.tokenizer, row.messages)[0] for row in some]
    scores = score(setup.within(shown, len, "instructions"))
    metrics |= {"reward/score/mean": fmean(scores), "reward/score/std": pstdev(scores)}
    if heldout:
        kept, encoded = encode_pairs(setup, heldout, "preferences_heldout")
        prompts = [row["prompt_ids"] for row in encoded]
        better, worse = (
            score([prompt + row[side] for prompt, row in zip(prompts, encoded, strict=True)])
            for side in ("chosen_ids", "rejected_ids")
        )
        metrics |= accuracy(kept, better, worse)

    # 5. Publish.
    setup.publish(trainer.model)
    handoff = setup.handoff(preferences=[[p.prompt, p.chosen, p.rejected] for p in pairs])
    handoff |= {"reward_mean": fmean(scores), "reward_std": pstdev(scores)}
    return StageResult(metrics, handoff)


def accuracy(
    pairs: Sequence[Preference], better: Sequence[float], worse: Sequence[float]
) -> dict[str, float]:
    """Pairwise accuracy (a tie counts half), margin and loss on held-out pairs, and by family."""
    import torch

    from align.maths.losses import bradley_terry_loss

    chosen, rejected = (torch.tensor(scores, dtype=torch.float64) for scores in (better, worse))
    loss, read = bradley_terry_loss(chosen, rejected)
    metrics = {
        "reward/heldout/accuracy": read["accuracy"].item(),
        "reward/heldout/margin": read["margin"].item(),
        "reward/heldout/loss": loss.item(),
        "reward/heldout/pairs": len(pairs),
    }
    families = defaultdict(list)
    for row, pair in enumerate(pairs):
        if "family" in pair.extra:
            families[str(pair.extra["family"])].append(row)
    for name in sorted(families):
        _, read = bradley_terry_loss(chosen[families[name]], rejected[families[name]])
        metrics[f"reward/family/{name}"] = read["accuracy"].item()
    return metrics


def _read(recipe: Recipe) -> tuple[list[Preference], list[Instruction], list[Preference]]:
    """Training pairs, demonstrations, and the held-out pairs whose prompt was not trained on."""
    pairs = load_preferences(recipe.data.given("preferences"), warn=tell)
    demonstrations = load_instructions(recipe.data.given("instructions"), warn=tell)
    if recipe.data.preferences_heldout is None:
        return pairs, demonstrations, []
    rows = load_preferences(recipe.data.preferences_heldout, warn=tell)
    heldout = with_unseen_prompts(rows, pairs)
    if len(heldout) < len(rows):
        tell(
            say(
                "data.preferences_heldout: {count} pairs left out: trained on",
                count=len(rows) - len(heldout),
            )
        )
    return pairs, demonstrations, heldout


STAGE = Stage(
    name="reward",
    run=run,
    section="reward",
    resumes=True,
    parents=("sft",),
    data=data,
    headline=("reward/train/loss", "reward/train/accuracy"),
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
