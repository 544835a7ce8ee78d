"""KTO: the SFT policy aligned with responses that are good or bad each by itself, trained by TRL.

    python -m stages.rlhf stages/recipes/tiny.yaml method=kto trainer.beta=0.1

Reads data.preferences: of each pair the chosen response is desirable and the rejected one is not,
and the loss is not told that they belong together. It holds a response's reward against a mean: the
KL of policy and reference, estimated on responses that belong to other prompts. The published SFT
policy is the start and the reference.

Source: Ethayarajh 2024, arXiv:2402.01306, eq. 7 (TRL's `loss_type: kto`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from align.data import load_preferences
from align.messages import tell
from align.runs.contract import StageContext, StageResult
from stages.support.aligned import aligned_stage
from stages.support.libraries import load_libraries

Ids = list[int]


def run(context: StageContext) -> StageResult:
    pairs = load_preferences(context.recipe.data.given("preferences"), warn=tell)

    load_libraries(("kto",))

    from trl import KTOConfig, KTOTrainer

    from stages.support import trl as support
    from stages.support.compact_head import score_labels_only
    from stages.support.encoded import encode_pairs
    from stages.support.preferences import policy_and_reference, published, rewards_are_zero
    from stages.support.training import TrainingSetup

    class EncodedKTOTrainer(KTOTrainer):
        def _prepare_dataset(self, dataset: Any, _: Any, args: Any, *__: Any) -> Any:
            if not self.calculate_KL:  # `loss_type: apo_zero_unpaired`
                return dataset
            # Encoded by us; TRL would render and tokenise it again before it does the same.
            responses = list(dataset["completion_ids"])
            others = mismatched(responses, args.per_device_train_batch_size)
            return dataset.add_column("KL_completion_ids", others)

    setup = TrainingSetup.of(context, "kto")
    kept, encoded = encode_pairs(setup, pairs, "preferences")
    policy, reference = policy_and_reference(setup)
    trainer = support.trainer(
        EncodedKTOTrainer,
        KTOConfig,
        setup,
        unpaired(encoded, seed=context.seed),
        model=policy,
        ref_model=reference,
    )
    score_labels_only(trainer, outputs=("entropy", "mean_logits"))
    metrics = support.fit(trainer, setup, check_start=rewards_are_zero(setup))
    return published(setup, trainer.model, metrics, pairs, too_long=len(pairs) - len(kept))


def unpaired(pairs: Sequence[dict[str, Any]], *, seed: int) -> list[dict[str, Any]]:
    """Every response as a row of its own, shuffled, the two of a pair half the rows apart.

    TRL reads KTO's rows in their order (it must: `mismatched`), so the shuffle is ours. A batch
    holds good and bad responses in equal parts on average, and no two responses to one prompt.
    """
    shuffle = random.Random(seed)
    drawn = shuffle.sample(pairs, len(pairs))
    firsts = [shuffle.random() < 0.5 for _ in drawn]
    return [
        {
            "prompt_ids": pair["prompt_ids"],
            "completion_ids": pair["chosen_ids" if good else "rejected_ids"],
            "label": good,
            "length": pair["length"],
        }
        for labels in (firsts, [not good for good in firsts])
        for pair, good in zip(drawn, labels, strict=True)
    ]


def mismatched(responses: Sequence[Ids], batch_size: int) -> list[Ids]:
    """For each row the response of the row before it in its batch; for the first, of the last.

    So the KL is estimated on the responses that are trained on, each given to another prompt. A
    last batch of one row has the row before it in the data.
    """
    others = []
    for start in range(0, len(responses), batch_size):
        batch = responses[start : start + batch_size]
        before = batch[-1] if len(batch) > 1 else responses[start - 1]
        others += [before, *batch[:-1]]
    return others


STAGE = aligned_stage(
    "kto", run, headline=("kto/train/loss", "kto/train/kl", "kto/rewards/margins")
)
