"""What needs a model: answers of a policy, their divergence from SFT, their rewards.

Shapes: b = sequences, r = response tokens, v = vocabulary. One policy at a time is in memory,
beside the reference; the reward model comes after all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from align.maths.kl import full_kl
from align.messages import counted, say
from align.models.forward import policy_forward
from align.models.upcast import in_float32
from align.sampling.sampler import ModelSampler, Sample, buckets, collate

LOGITS_AT_ONCE = 2**25
"""Logits of one model held in one piece: 128 MB in float32."""
LONGEST = 2**20
"""More tokens than any prompt has."""

Prompts = Sequence[Sequence[int]]
Answers = list[list[Sample]]
"""The samples of each prompt, [p][s]."""


@dataclass(frozen=True)
class GenerationSettings:
    """How every policy answers: the same tokens end, the same lengths limit."""

    pad_id: int
    stop_ids: Sequence[int]
    max_new_tokens: int
    batch_size: int
    seed: int


def answer(
    model: PreTrainedModel,
    prompts: Prompts,
    settings: GenerationSettings,
    *,
    temperature: float,
    samples: int = 1,
) -> Answers:
    """Sample each prompt's answers; every policy is given the same random numbers."""
    sampler = ModelSampler(
        model,
        pad_id=settings.pad_id,
        stop_ids=settings.stop_ids,
        max_new_tokens=settings.max_new_tokens,
        temperature=temperature,
        batch_size=settings.batch_size,
    )
    generator = torch.Generator().manual_seed(settings.seed)
    drawn = sampler.sample(prompts, generator=generator, responses_per_prompt=samples)
    return [drawn[start : start + samples] for start in range(0, len(drawn), samples)]


@torch.inference_mode()
def kl_to_reference(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    prompts: Prompts,
    answers: Answers,
    settings: GenerationSettings,
    *,
    temperature: float = 1.0,
) -> list[list[float]]:
    """KL(policy ‖ reference) in nats along each sampled answer, [p][s].

    At every token of an answer, the stop token included, the whole distributions are compared:

        Σ_t KL(π(· | x, y_<t) ‖ π_ref(· | x, y_<t)),   y ~ π

    Its mean is the divergence between the two distributions of answers (chain rule), with far
    less variance than the log-ratio of the tokens that happened to be drawn.

    Computed in float32 whatever the weights are stored in: the rounding of bfloat16 passes would
    add about .002 nats a token. Memory beside the stored weights: one layer, embeddings and head
    of each model in float32.
    """
    pairs = [
        (prompt, sample) for prompt, its in zip(prompts, answers, strict=True) for sample in its
    ]
    flat = [0.0] * len(pairs)
    vocabulary = policy.config.get_text_config().vocab_size
    with in_float32(policy), in_float32(reference):
        batches = list(_batches(pairs, settings.batch_size, vocabulary))
        for rows in counted(batches, say("measuring the KL")):
            batch = collate(
                [pairs[row][0] for row in rows],
                [pairs[row][1] for row in rows],
                pad_id=settings.pad_id,
                device=policy.device,
            )
            logits, ref_logits = (
                policy_forward(model, batch).logits.unsqueeze(0) / (temperature or 1.0)
                for model in (policy, reference)
            )
            nats = batch.scatter_to_padded(full_kl(logits, ref_logits).squeeze(0))
            for row, total in zip(rows, nats.sum(dim=1).tolist(), strict=True):
                flat[row] = total
    counts = iter(flat)
    return [[next(counts) for _ in its] for its in answers]


def _batches(
    pairs: Sequence[tuple[Sequence[int], Sample]], batch_size: int, vocabulary: int
) -> Iterator[list[int]]:
    """Indices in groups of like length whose logits fit into LOGITS_AT_ONCE."""
    widest = max(len(sample.response) for _, sample in pairs) + 1
    size = max(1, min(batch_size, LOGITS_AT_ONCE // (widest * vocabulary)))
    # A batch is as wide as its longest prompt and its longest answer together, and the answer's
    # columns cost most (logits): neighbours in length of answer waste least.
    yield from buckets(
        [len(sample.response) * LONGEST + len(prompt) for prompt, sample in pairs], size
    )
