"""TRL's PPO behind a gate: `PPOTrainer.train` as it is, with a clock around what it calls.

The released files are not touched. Two things are put in place from outside: the data loader,
which here waits for the parent before it yields a batch of prompts, and clocks around the functions
that `train` calls. The loader has a second effect: accelerate takes the last batch of its own
loader for the end of an accumulation and steps on every micro-batch of it; with this one, each
epoch takes the one optimiser step that it is meant to take.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
import trl
from datasets import Dataset
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

from align.sampling.sampler import left_pad
from tests import tiny
from tests.benchmarks import workload
from tests.benchmarks.channel import Gate


class Batches:
    """A loader that lets the parent say when the next rollout begins."""

    def __init__(self, gate: Gate, batches: Iterable[list[list[int]]], pad_id: int) -> None:
        self.gate, self.batches, self.pad_id = gate, batches, pad_id

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for prompts in self.batches:
            self.gate.wait()
            yield {"input_ids": left_pad(prompts, self.pad_id)[0]}


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
    pad_id = trainer.processing_class.pad_token_id

    def noted_generation(model: Any, queries: torch.Tensor, *args: Any) -> Any:
        ids, logits = generation(model, queries, *args)
        width = queries.shape[1]
        kept = (ids != pad_id).split([width, ids.shape[1] - width], dim=1)
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


def build(gate: Gate, folder: str, **parts: Any) -> TimedTrainer:
    """The trainer on the given models; `job["trl"]` holds the settings that differ."""
    TimedTrainer.gate = gate
    settings = PPOConfig(
        output_dir=folder,
        seed=gate.job["seed"],
        use_cpu=gate.device.type == "cpu",
        gradient_checkpointing=False,  # TRL's default recomputes activations
        stop_token="eos",
        temperature=1.0,
        missing_eos_penalty=1.0,
        num_sample_generations=0,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **gate.job["trl"],
    )
    pad_id = parts["processing_class"].pad_token_id
    parts["model"].generation_config.pad_token_id = pad_id  # `generate` takes it from here
    rows = Dataset.from_dict({"input_ids": [[pad_id]]})  # `Batches` comes in its place
    trainer = TimedTrainer(args=settings, train_dataset=rows, eval_dataset=rows, **parts)
    put_clocks(gate, trainer)
    return trainer


def open_gate() -> Gate:
    assert trl.__version__ == "1.12.0", f"{trl.__version__} of {trl.__file__}"
    gate = Gate()
    gate.count_memory()
    return gate


def frozen(model: Any, shape: workload.Shape) -> Any:
    """In the type of the arithmetic."""
    return model.to(shape.arithmetic)


def main() -> None:
    gate = open_gate()
    shape = workload.Shape(**gate.job["shape"])
    with tempfile.TemporaryDirectory() as folder:
        trainer = build(
            gate,
            folder,
            processing_class=tiny.tokenizer(),
            model=workload.causal_lm(shape),
            ref_model=frozen(workload.causal_lm(shape), shape),
            reward_model=frozen(workload.reward_model(shape), shape),
            value_model=workload.reward_model(shape),
        )
        trainer.dataloader = Batches(gate, [workload.prompts(shape)], workload.PAD)
        trainer.train()


if __name__ == "__main__":
    main()
