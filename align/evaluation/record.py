"""What an evaluation leaves on disk, and where its numbers come from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from align.config import Recipe
from align.runs.artifacts import Artifact

LIBRARIES = ("torch", "transformers", "trl", "peft")


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


def write(folder: Path, summary: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write summary.json and samples.jsonl."""
    text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "summary.json").write_text(text + "\n", encoding="utf-8")
    with (folder / "samples.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
