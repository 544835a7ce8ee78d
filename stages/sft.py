"""SFT: instructions to a policy that answers and stops.

    python -m stages.sft stages/recipes/tiny.yaml trainer.learning_rate=1e-4

Reads data.instructions. The loss is on the assistant's tokens and their stop tokens only.
"""

from __future__ import annotations

from align.config import DataSource, Recipe
from align.data import load_instructions
from align.messages import doing, say, tell
from align.runs.contract import Stage, StageContext, StageResult
from align.runs.runner import main
from stages.support.libraries import load_libraries
from stages.support.reward_source import stages_ahead


def data(recipe: Recipe) -> dict[str, DataSource | None]:
    return {"instructions": recipe.data.instructions}


def run(context: StageContext) -> StageResult:
    # 1. Read and check the demonstrations, before anything heavy is loaded.
    rows = load_instructions(context.recipe.data.given("instructions"), warn=tell)

    load_libraries(("sft",))

    from trl import SFTConfig, SFTTrainer

    from align.data import chat
    from align.sampling.self_check import check_fit, check_sampler
    from stages.support import trl as support
    from stages.support.compact_head import score_labels_only
    from stages.support.encoded import encode_answers
    from stages.support.training import TrainingSetup

    # 2. Check the model: what is wrong with it is told before anything is trained.
    setup = TrainingSetup.of(context, "sft")
    chat.check_rows(setup.tokenizer, rows)
    check_fit(setup.tokenizer, context.recipe, stages_ahead(context.recipe))
    model = setup.load()
    with doing(say("checking the model")):
        check_sampler(model)

    # 3. Encode: every answer counts once, the prompt never.
    encoded = encode_answers(setup, rows)
    examples = setup.within(encoded, lambda row: row["length"], "instructions")

    # 4. Train and publish.
    packing = bool(context.recipe.sft.trainer.get("packing"))
    fixed = {
        "dataset_kwargs": {"skip_prepare_dataset": not packing},
        "max_length": setup.max_length if packing else None,
    }
    trainer = support.trainer(SFTTrainer, SFTConfig, setup, examples, fixed=fixed, model=model)
    score_labels_only(trainer, outputs=("entropy", "is_top1"))
    metrics = support.fit(trainer, setup)
    setup.publish(trainer.model)
    metrics["sft/data/rows"] = len(rows)
    metrics["sft/data/too_long"] = len(encoded) - len(examples)
    return StageResult(metrics, setup.handoff(instructions=[row.messages for row in rows]))


STAGE = Stage(
    name="sft",
    run=run,
    section="sft",
    resumes=True,
    data=data,
    headline=("sft/train/loss", "sft/train/mean_token_accuracy"),
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
