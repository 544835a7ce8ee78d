"""A world small enough for a stage to run in a second: a random model, a few rows, a recipe."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from align.config.methods import ALIGNED
from align.runs.runner import main
from stages import evaluate, reward, rlhf, sft
from tests import tiny

STAGES = {
    "sft": (sft.STAGE,),
    "reward": (reward.STAGE,),
    **dict.fromkeys(ALIGNED, rlhf.STAGES),
    "evaluate": (evaluate.STAGE,),
}
LORA = {"r": 4, "alpha": 8, "dropout": 0.1}


def rows(count: int = 20) -> list[dict[str, Any]]:
    """Preference rows, which also serve as instructions and prompts: the good answer is polite."""
    return [
        {
            "prompt": f"{i} + {i}?" if i % 2 else f"안녕, {i}",
            "chosen": f"It is {2 * i}. Thank you.",
            "rejected": f"no{'!' * (i % 5 + 1)}",
            "family": ("greet", "sum")[i % 2],
        }
        for i in range(count)
    ]


class World:
    """A folder with a base model, data and a recipe; `run` brings a stage up to date in it."""

    def __init__(
        self,
        folder: Path,
        *,
        model: PreTrainedModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        recipe: dict[str, Any] | None = None,
    ) -> None:
        self.folder, self.base = folder, folder / "base"
        (model or tiny.llama(1)).save_pretrained(self.base)
        (tokenizer or tiny.tokenizer()).save_pretrained(self.base)
        self.recipe = recipe or self._recipe()

    def _recipe(self) -> dict[str, Any]:
        pairs = self.write("pairs.jsonl", rows())
        trainer = {"per_device_train_batch_size": 4, "max_steps": 2, "learning_rate": 1e-3}
        return {
            "model": {"path": str(self.base), "device": "cpu", "threads": 1},
            "tracking": {"wandb": "off"},
            "data": {
                "instructions": pairs,
                "preferences": pairs,
                "preferences_heldout": self.write("heldout.jsonl", rows(26)),
                "prompts": pairs,
            },
            "sft": {"max_length": 128, "trainer": dict(trainer)},
            "reward": {"max_length": 128, "trainer": dict(trainer)},
            "dpo": {"max_length": 128, "trainer": dict(trainer)},
            "kto": {"max_length": 128, "trainer": dict(trainer)},
            "ppo": {
                "iterations": 2,
                "rollout_batch_size": 4,
                "epochs": 1,
                "micro_batch_size": 2,
                "max_new_tokens": 6,
            },
        }

    def write(self, name: str, content: list[dict[str, Any]]) -> str:
        path = self.folder / name
        path.write_text("\n".join(json.dumps(row) for row in content), "utf-8")
        return str(path)

    def run(self, name: str, *items: str) -> int:
        """Run one stage as from the command line; return its exit code."""
        path = self.folder / "recipe.yaml"
        path.write_text(json.dumps(self.recipe), "utf-8")  # JSON is YAML
        method = [f"method={name}"] if STAGES[name] is rlhf.STAGES else []
        argv = [str(path), f"runs_dir={self.folder / 'runs'}", *method, *items]
        return main(*STAGES[name], argv=argv)

    def out(self, name: str, run: str = "recipe") -> Path:
        return self.folder / "runs" / run / name

    def parents(self, run: str = "recipe", names: Sequence[str] = ("sft", "reward")) -> list[str]:
        """What is given on the command line to take the parents from another run."""
        return [f"parents.{name}={self.out(name, run)}" for name in names]

    def manifest(self, name: str) -> dict[str, Any]:
        return json.loads((self.out(name) / "manifest.json").read_text("utf-8"))

    def curve(self, name: str, run: str = "recipe") -> list[dict[str, Any]]:
        text = (self.out(name, run) / "metrics.jsonl").read_text("utf-8")
        return [json.loads(line) for line in text.splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a published folder."""
    from safetensors.torch import load_file

    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def seen_batches(monkeypatch: Any, trainer_class: type, record: Callable[[Any, Any], None]) -> None:
    """Call `record(trainer, inputs)` on every batch that a TRL trainer computes a loss for."""
    compute = trainer_class.compute_loss

    def compute_loss(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        record(self, inputs)
        return compute(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(trainer_class, "compute_loss", compute_loss)
