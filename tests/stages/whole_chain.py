"""A whole chain on a tiny random model and a few rows: its folder, its recipe, its commands."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests import tiny

ROOT = Path(__file__).parents[2]
CHAIN = ("sft", "reward", "dpo", "kto", "ppo", "evaluate", "report")
HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "wandb", "numpy"}
RECIPE = """\
model: {path: base, device: cpu, threads: 1}
data:
  instructions: sft.jsonl
  preferences: pairs.jsonl
  preferences_heldout: heldout.jsonl
  prompts: prompts.jsonl
  evaluation: evaluation.jsonl
tracking: {wandb: offline}
sft:
  max_length: 96
  trainer: {max_steps: 3, per_device_train_batch_size: 4, learning_rate: 1e-3, logging_steps: 1}
reward:
  max_length: 96
  trainer: {max_steps: 3, per_device_train_batch_size: 4, learning_rate: 1e-3, logging_steps: 1}
dpo:
  max_length: 96
  lora: {r: 4, alpha: 8}
  trainer: {max_steps: 3, per_device_train_batch_size: 4, learning_rate: 1e-3, logging_steps: 1}
ppo:
  iterations: 2
  rollout_batch_size: 8
  epochs: 1
  micro_batch_size: 4
  max_new_tokens: 8
kto:
  max_length: 96
  trainer: {max_steps: 3, per_device_train_batch_size: 4, learning_rate: 1e-3, logging_steps: 1}
evaluate: {max_new_tokens: 8, bootstrap: 50, showcase: 2, policies: [base, sft, dpo, ppo, kto]}
"""


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def lay_out(folder):
    """A random base model with its tokenizer, a few rows of each kind, a recipe."""
    model, tokenizer = tiny.llama(), tiny.tokenizer()
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    write_rows(
        folder / "sft.jsonl",
        [{"prompt": f"What is {n} + 1?", "response": f"{n + 1}"} for n in range(24)],
    )
    for name, start in (("pairs", 0), ("heldout", 50)):
        write_rows(
            folder / f"{name}.jsonl",
            [
                {"prompt": f"What is {n} + 2?", "chosen": f"{n + 2}", "rejected": "I know not."}
                for n in range(start, start + 24)
            ],
        )
    for name, start in (("prompts", 0), ("evaluation", 50)):
        write_rows(
            folder / f"{name}.jsonl",
            [
                {
                    "prompt": f"What is {n} + 3?",
                    "checks": [{"kind": "contains_any", "values": [str(n + 3)], "core": True}],
                    "family": "sum",
                    "language": "en",
                    "seen": n % 2 == 0,
                }
                for n in range(start, start + 12)
            ],
        )
    (folder / "r.yaml").write_text(RECIPE)


def call(folder, module, *arguments):
    """Run a stage as a person does; return (exit code, stdout, stderr, imported libraries)."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"stages.{module}", "r.yaml", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        check=False,
    )
    imports = re.findall(r"^import time:.*\| +([\w.]+)$", done.stderr, re.M)
    errors = re.sub(r"^import time:.*\n", "", done.stderr, flags=re.M)
    return done.returncode, done.stdout, errors, {name.split(".")[0] for name in imports}
