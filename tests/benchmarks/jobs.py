"""The trainers of a comparison: TRL, ours doing the same work, ours as it ships, and lighter."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from align.config import LoraSection, PPOConfig
from tests.benchmarks.channel import BUILD, Child
from tests.benchmarks.workload import Shape

TRL_FOLDER = BUILD.parent / "trl-1.12.0"
TRL, SAME_WORK, OUR_DEFAULT = "TRL 1.12.0", "same work", "our default"
VALUE_HEAD = "critic=head"
LEARNING_RATE = 3e-6  # TRL's default; so small that the lengths sampled do not move
MICRO, EPOCHS = 8, 4
ENDLESS = 10**6  # iterations; the parent stops when it has seen enough
SAME_CONFIG: dict[str, Any] = {
    "epochs": EPOCHS,
    "minibatches": 1,
    "micro_batch_size": MICRO,
    "learning_rate": LEARNING_RATE,
    "value_learning_rate": LEARNING_RATE,
    "value_clip_range": 0.2,
}
DEFAULT_CONFIG: dict[str, Any] = {"lora": LoraSection().model_dump(), "micro_batch_size": MICRO}
"""PPOConfig as it ships, but for the shape of a batch, which is the same in all."""


class Job(NamedTuple):
    """What a child process is told, and what its floor depends on."""

    name: str
    module: str
    told: dict[str, Any]
    epochs: int
    rank: int | None
    own_critic: bool = True

    def start(self) -> Child:
        path = TRL_FOLDER if self.name == TRL else None
        return Child(self.name.replace(" ", "-"), self.module, self.told, path=path)


def jobs(
    shape: Shape, *, threads: int, device: str = "cpu", rollout_forward: int = 64
) -> list[Job]:
    """`rollout_forward`: TRL's batch for sampling and measuring."""
    told = {"shape": asdict(shape), "threads": threads, "device": device, "seed": 0}
    settings = {
        "per_device_train_batch_size": MICRO,
        "gradient_accumulation_steps": shape.prompts // MICRO,
        "local_rollout_forward_batch_size": rollout_forward,
        "num_ppo_epochs": EPOCHS,
        "total_episodes": ENDLESS * shape.prompts,
        "response_length": shape.new_tokens,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "bf16": shape.dtype == "bfloat16",  # autocast, over weights in float32
    }
    endless = {"iterations": ENDLESS, "lr_schedule": "constant"}
    theirs, ours = "tests.benchmarks.child_trl", "tests.benchmarks.child_ours"
    same, default = endless | SAME_CONFIG, endless | DEFAULT_CONFIG
    lora, shipped, head = LoraSection(), PPOConfig(), default | {"critic": "head"}
    return [
        Job(TRL, theirs, told | {"trl": settings}, EPOCHS, None),
        Job(SAME_WORK, ours, told | {"config": same}, EPOCHS, None),
        Job(OUR_DEFAULT, ours, told | {"config": default}, shipped.epochs, lora.r),
        Job(VALUE_HEAD, ours, told | {"config": head}, shipped.epochs, lora.r, own_critic=False),
    ]


def fetch_trl() -> Path:
    """TRL 1.12.0 in a folder outside the environment, without what it depends on."""
    if not TRL_FOLDER.exists():
        part = TRL_FOLDER.with_name(TRL_FOLDER.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command = [*pip, "--no-deps", "--target", str(part), "trl==1.12.0"]
        if subprocess.run(command, check=False).returncode:
            raise SystemExit("error: pip could not fetch trl==1.12.0; the comparison needs it")
        part.rename(TRL_FOLDER)
    return TRL_FOLDER
