"""Our PPO behind a gate: `align.ppo.train.train` as it is, with a clock around its named steps."""

from __future__ import annotations

import copy
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from align.config import LoraSection, PPOConfig
from align.data import EncodedPrompt
from align.models.load import lora_config
from align.ppo import train as ppo
from align.ppo.roles import SeparateRoles, SharedRoles
from tests.benchmarks import workload
from tests.benchmarks.channel import Gate

PHASE_OF = {
    "sample": "sample",
    "score": "score",
    "measure": "measure",
    "shape": "shape+estimate",
    "estimate": "shape+estimate",
    "update": "update",
}


class Gated:
    """A tracker: the end of an iteration is where the next one waits."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def log(self, step: int, metrics: Any, *, total: int | None = None) -> None:
        self.gate.metrics = dict(metrics)
        self.gate.wait()

    def note(self, line: str) -> None:
        print(line, file=sys.stderr)


def put_clocks(gate: Gate) -> None:
    """Time the steps of `ppo.train` where it looks them up, and note the lengths it sampled."""
    plain_sample = ppo.sample

    def sample(roles: Any, prompts: Sequence[EncodedPrompt], *args: Any, **kwargs: Any) -> Any:
        samples, sequences = plain_sample(roles, prompts, *args, **kwargs)
        pairs = zip(prompts, samples, strict=True)
        gate.lengths = [(len(prompt.ids), len(drawn.response)) for prompt, drawn in pairs]
        return samples, sequences

    ppo.sample = sample
    for step, phase in PHASE_OF.items():
        setattr(ppo, step, gate.clock.timed(phase, getattr(ppo, step)))


def build(shape: workload.Shape, job: dict[str, Any]) -> tuple[Any, PPOConfig]:
    """`same`: four full models and TRL's batches. `default`: one base with adapters."""
    ids: dict[str, Any] = {"pad_id": workload.PAD, "stop_ids": [workload.STOP]}
    ids["critic"] = job["config"].get("critic", "reward")
    config = PPOConfig(
        rollout_batch_size=shape.prompts,
        max_new_tokens=shape.new_tokens,
        **job["config"],
    )
    device, arithmetic = job["device"], shape.arithmetic
    base = workload.causal_lm(shape).to(device)
    if config.lora is None:
        scorer = workload.reward_model(shape).to(device)
        if arithmetic != torch.float32:
            ids["compute_dtype"] = arithmetic
        return SeparateRoles(base, copy.deepcopy(base), scorer, **ids), config
    lora = lora_config(config.lora, task="causal")
    with tempfile.TemporaryDirectory() as folder:
        workload.save_reward_adapter(shape, lora, folder)
        return SharedRoles(base.to(arithmetic), lora, reward_adapter=Path(folder), **ids), config


def main() -> None:
    gate = Gate()
    shape = workload.Shape(**gate.job["shape"])
    if gate.job["config"].get("lora"):
        gate.job["config"]["lora"] = LoraSection(**gate.job["config"]["lora"])
    gate.count_memory()
    roles, config = build(shape, gate.job)
    put_clocks(gate)
    gate.wait()
    prompts = [EncodedPrompt(ids) for ids in workload.prompts(shape)]
    ppo.train(roles, prompts, config, tracker=Gated(gate), seed=gate.job["seed"])


if __name__ == "__main__":
    main()
