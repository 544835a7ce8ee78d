"""TRL's PPO behind a gate: `PPOTrainer.train` as it is, with a clock around what it calls.

The released file is not touched. Two things are put in its place from outside: the data loader,
which here waits for the parent before it yields the one batch of prompts, and clocks around the
functions that `train` calls. The loader has a second effect, in TRL's disfavour and the checklist's
favour: accelerate takes the last batch of its own loader for the end of an accumulation and would
step on every micro-batch of it; with this one each epoch takes the one step it is meant to take.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import Any

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
import trl
from datasets import Dataset
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

from align.rollout import left_pad
from tests import tiny
from tests.benchmarks import workload
from tests.benchmarks.channel import Gate
from tests.benchmarks.clock import Memory

ENDLESS = 10**9


class Batches:
    """The same prompts again and again, each time the parent says so."""

    def __init__(self, gate: Gate, prompts: list[list[int]], pad_id: int) -> None:
        self.gate = gate
        self.batch = {"input_ids": left_pad(prompts, pad_id)[0]}

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        self.gate.wait()
        yield self.batch


class TimedTrainer(PPOTrainer):
    """The update ends where `train` logs it."""

    gate: Gate

    def log(self, *args: Any, **kwargs: Any) -> None:
        self.gate.clock.end("update")
        super().log(*args, **kwargs)


def put_clocks(gate: Gate, trainer: TimedTrainer) -> None:
    """Phases by our names: reference and critic measure, the reward model scores."""
    clock, generation = gate.clock, ppo_trainer.batch_generation
    forward, get_reward = ppo_trainer.forward, ppo_trainer.get_reward
    measured, scored = clock.timed("measure", forward), clock.timed("score", get_reward)
    valued = clock.timed("measure", get_reward)

    def noted_generation(model: Any, queries: torch.Tensor, *args: Any) -> Any:
        ids, logits = generation(model, queries, *args)
        kept = (ids != workload.PAD).split([queries.shape[1], ids.shape[1] - queries.shape[1]], 1)
        gate.lengths = list(zip(*(part.sum(1).tolist() for part in kept), strict=True))
        return ids, logits

    def timed_forward(*args: Any) -> Any:
        if torch.is_grad_enabled():
            clock.begin("update")
            return forward(*args)
        return measured(*args)

    def timed_reward(model: Any, *args: Any) -> Any:
        return (scored if model is trainer.reward_model else valued)(model, *args)

    ppo_trainer.batch_generation = clock.timed("sample", noted_generation)
    ppo_trainer.forward = timed_forward
    ppo_trainer.get_reward = timed_reward


def settings(shape: workload.Shape, job: dict[str, Any], folder: str) -> PPOConfig:
    micro = job["micro_batch_size"]
    return PPOConfig(
        output_dir=folder,
        seed=job["seed"],
        use_cpu=True,
        bf16=False,  # TRL's defaults would run in bfloat16 and recompute activations
        gradient_checkpointing=False,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=shape.prompts // micro,
        local_rollout_forward_batch_size=job["rollout_forward"],
        num_ppo_epochs=job["epochs"],
        total_episodes=ENDLESS * shape.prompts,
        response_length=shape.new_tokens,
        stop_token="eos",
        temperature=1.0,
        missing_eos_penalty=1.0,
        learning_rate=job["learning_rate"],
        lr_scheduler_type="constant",
        num_sample_generations=0,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def build(gate: Gate, shape: workload.Shape, folder: str) -> TimedTrainer:
    TimedTrainer.gate = gate
    prompts = workload.prompts(shape)
    rows = Dataset.from_dict({"input_ids": prompts})
    policy = workload.causal_lm(shape)
    policy.generation_config.pad_token_id = workload.PAD
    trainer = TimedTrainer(
        args=settings(shape, gate.job, folder),
        processing_class=tiny.tokenizer(),
        model=policy,
        ref_model=workload.causal_lm(shape),
        reward_model=workload.reward_model(shape),
        value_model=workload.reward_model(shape),
        train_dataset=rows,
        eval_dataset=rows,
    )
    trainer.dataloader = Batches(gate, prompts, workload.PAD)
    return trainer


def main() -> None:
    assert trl.__version__ == "1.12.0", f"{trl.__version__} of {trl.__file__}"
    gate = Gate()
    torch.set_num_threads(gate.job["threads"])
    gate.memory = Memory()
    with tempfile.TemporaryDirectory() as folder:
        trainer = build(gate, workload.Shape(**gate.job["shape"]), folder)
        put_clocks(gate, trainer)
        trainer.train()


if __name__ == "__main__":
    main()
