"""What an evaluation leaves on disk, and where its numbers come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from align.config import Recipe
from align.evaluation import SAMPLES, SUMMARY
from align.evaluation.evaluation_set import EvaluationSet, Generations, Responses
from align.evaluation.summary import FORMAT, summarise
from align.messages import json_text
from align.runs.artifacts import Artifact
from align.runs.inputs import LIBRARIES


def provenance(
    recipe: Recipe, run: str, parents: Mapping[str, Artifact], device: str
) -> dict[str, Any]:
    """The entry `provenance` of the summary: names and hashes, no path of this machine."""
    handoff = parents["sft"].manifest
    return {
        "run": run,
        "recipe": recipe.name,
        "seed": recipe.seed,
        "date": datetime.now(UTC).date().isoformat(),
        "device": device,
        "base_model": Path(recipe.model.path).name,
        "base_revision": recipe.model.revision,
        "fingerprints": {name: parent.manifest.fingerprint for name, parent in parents.items()},
        "tokenizer_hash": handoff.tokenizer_hash,
        "template_hash": handoff.template_hash,
        "versions": {name: version(name) for name in LIBRARIES},
    }


def summary_of(
    evaluation_set: EvaluationSet,
    generations: Mapping[str, Generations],
    pool: Responses | None,
    card: Mapping[str, Any] | None,
    *,
    pairs_left_out: Mapping[str, int],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """All of summary.json; `pool` is what best-of-n picked from, `card` the reward model's."""
    config = evaluation_set.config
    found = summarise(
        [prompt.extra for prompt in evaluation_set.prompts],
        {name: given.sampled.numbers() for name, given in generations.items()},
        {name: given.greedy.numbers() for name, given in generations.items()},
        resamples=config.bootstrap,
        seed=evaluation_set.seed,
        pool=None if pool is None else pool.numbers(),
    )
    return {
        "format": FORMAT,
        "provenance": provenance,
        "setup": {
            "prompts": found["prompts"],
            "left_out": {"prompts": evaluation_set.left_out, "pairs": pairs_left_out},
            **config.model_dump(mode="json", exclude={"max_prompts", "showcase"}),
        },
        "policies": found["policies"],
        "best_of_n": found["best_of_n"],
        "reward_model": card,
    }


def write(folder: Path, summary: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write summary.json and samples.jsonl."""
    text = json_text(summary, indent=2, allow_nan=False)
    (folder / SUMMARY).write_text(text + "\n", encoding="utf-8")
    with (folder / SAMPLES).open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json_text(row, allow_nan=False) + "\n")
