"""A chain of stages that trains nothing: what the runner does, seen without a model."""

from __future__ import annotations

import json
import os
from pathlib import Path

from align.runs.contract import Stage, StageContext, StageResult

RECIPE = """\
model: {path: base}
data:
  instructions: sft.jsonl
  preferences: pairs.jsonl
  prompts: prompts.jsonl
tracking: {wandb: off}
sft: {max_length: 8}
"""


def _write(context: StageContext, stage: str, tokenizer_hash: str = "t") -> StageResult:
    told = os.environ.get("CHAIN_FAULT", "")
    context.tracker.log(1, {f"{stage}/train/loss": 0.5}, total=1)
    (context.out / "model").mkdir()
    (context.out / "model" / "weights").write_text(stage + str(context.seed))
    if told:
        exec(told, {"context": context})
    return StageResult({"loss": 0.5}, {"kind": "full", "tokenizer_hash": tokenizer_hash})


def sft(context: StageContext) -> StageResult:
    return _write(context, "sft")


def reward(context: StageContext) -> StageResult:
    assert (context.parents["sft"].model / "weights").is_file()
    return _write(context, "reward")


def dpo(context: StageContext) -> StageResult:
    return _write(context, "dpo")


def ppo(context: StageContext) -> StageResult:
    return _write(context, "ppo")


def evaluate(context: StageContext) -> StageResult:
    (context.out / "summary.json").write_text(json.dumps({"policies": {}}))
    return StageResult()


SFT = Stage("sft", sft, "sft", data=lambda recipe: {"instructions": recipe.data.instructions})
REWARD = Stage(
    "reward", reward, "reward", ("sft",), lambda recipe: {"preferences": recipe.data.preferences}
)
DPO = Stage("dpo", dpo, "dpo", ("sft",), lambda recipe: {"preferences": recipe.data.preferences})
PPO = Stage("ppo", ppo, "ppo", ("sft", "reward"), lambda recipe: {"prompts": recipe.data.prompts})
EVALUATE = Stage(
    "evaluate",
    evaluate,
    "evaluate",
    lambda recipe: (*recipe.evaluate.policies[1:], "reward"),
)
STAGES = (SFT, REWARD, DPO, PPO, EVALUATE)


def lay_out(folder: Path) -> Path:
    """Write a base model, data files and a recipe; return the recipe's path."""
    (folder / "base").mkdir()
    (folder / "base" / "config.json").write_text("{}")
    for name in ("sft", "pairs", "prompts"):
        (folder / f"{name}.jsonl").write_text(json.dumps({"prompt": name}) + "\n")
    (folder / "r.yaml").write_text(RECIPE)
    return folder / "r.yaml"
