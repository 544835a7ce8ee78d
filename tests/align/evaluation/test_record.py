"""What is written can be read again, and names no place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.config import Recipe
from align.evaluation.record import provenance, write
from align.runs.artifacts import Artifact
from align.runs.manifest import Manifest


def test_provenance_names_what_was_used_and_no_path(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(
        {"name": "mine", "seed": 3, "model": {"path": str(tmp_path / "base")}, "data": {}}
    )
    manifest = Manifest(
        stage="sft", fingerprint="f" * 64, inputs={}, config={}, seed=3, tokenizer_hash="t" * 64
    )
    made = provenance(recipe, "run-1", {"sft": Artifact(tmp_path / "sft", manifest)}, "cpu")
    assert (made["run"], made["recipe"], made["seed"]) == ("run-1", "mine", 3)
    assert made["base_model"] == "base"
    assert made["fingerprints"] == {"sft": "f" * 64}
    assert made["tokenizer_hash"] == "t" * 64
    assert str(tmp_path) not in json.dumps(made)


def test_rows_are_json_lines_in_utf_8_and_nan_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"format": 1}, [{"text": "서울\nSeoul"}, {"text": "\u2028"}])
    lines = (tmp_path / "samples.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert [json.loads(line)["text"] for line in lines] == ["서울\nSeoul", "\u2028"]
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8")) == {"format": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(tmp_path, {"mean": float("nan")}, [])
