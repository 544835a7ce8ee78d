"""Takes a stage of TRL up where it was broken off: on a CPU to the bit, as align/ppo/state.py does.

transformers goes on from a folder with weights, optimiser, generators and the count of steps, and
skips the batches that were trained on. Here these come from a checkpoint of this project
(align/runs/checkpoints.py), which is written whole or not at all, holds no pickle, and has what
transformers leaves out:

- what was added up since the last log, so that the curve is the same too;
- the generators at the beginning of the epoch: its batches are drawn from them, and could not be
  skipped if they were drawn anew;
- what TRL's trainers count, and the answers of a rollout that are not trained on yet;
- a generator that a sampler has of its own, and a reference that follows the policy.

At the last step the trained weights alone are saved: a run that is broken off before they are
published has nothing left to train.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME

from align.runs.checkpoints import Checkpoints, Saved

COUNTED = (
    *("_tr_loss", "_total_loss_scalar", "_globalstep_last_logged"),
    *("_total_train_tokens", "_step", "_buffered_inputs", "_current_train_step_time"),
    *("_last_world_entropy", "_entropy_window_stats", "entropy_coef"),
)
"""Attributes in which the trainers of transformers and TRL add up, where they have them."""


def resumable(trainer_class: type[Any]) -> type[Any]:
    """A trainer that saves into `checkpoints` and goes on from `saved`, where it has them."""

    class ResumableTrainer(trainer_class):
        checkpoints: Checkpoints | None = None
        latest: dict[str, float]
        """The metrics of the last log, kept up to date by another callback."""
        saved: dict[str, Any] | None = None
        epoch_generators: dict[str, Any] | None = None
        sampling: torch.Generator | None = None
        """The sampler's own, where it goes on from one epoch to the next."""

        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            sampler = super()._get_train_sampler(*args, **kwargs)
            self.sampling = getattr(sampler, "generator", None)
            return sampler

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            state = self.state
            assert self.checkpoints is not None
            self.checkpoints.reached(state.global_step, state.max_steps, lambda: capture(self))

        def _load_from_checkpoint(self, folder: str, model: Any = None) -> None:
            assert self.saved is not None
            restore_weights(self, self.saved)

        def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
            if self.saved is not None:
                self.optimizer.load_state_dict(self.saved["optimizer"])
                self.lr_scheduler.load_state_dict(self.saved["scheduler"])

        def _load_rng_state(self, checkpoint: str | None) -> None:
            if self.saved is not None:
                restore_generators(self.saved["generators"], self.sampling)

    return ResumableTrainer


class Resume(TrainerCallback):
    """Saves what is due, and puts back what transformers resets after it has loaded a state."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if (saved := self.trainer.saved) is not None:
            restore_counts(self.trainer, saved)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer, saved = self.trainer, self.trainer.saved
        if saved is not None and state.global_step == saved["trainer"]["global_step"]:
            within = state.epoch != int(state.epoch)
            states = saved["epoch_generators" if within else "generators"]
            restore_generators(states, trainer.sampling)
        trainer.epoch_generators = generators(trainer.sampling)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        self.trainer.saved = None  # all of it has been put back, and it is as large as the weights
        control.should_save = self.trainer.checkpoints.due(state.global_step, state.max_steps)
        return control


def train(trainer: Any, checkpoints: Checkpoints | None, latest: dict[str, float]) -> None:
    """Train to the end, from the newest checkpoint where there is one.

    Args:
        latest: the metrics of the last log; filled with those of the checkpoint.

    Raises:
        Stopped: a stop signal came; the step was finished, and saved.
    """
    if checkpoints is None:
        trainer.train()
        return
    folder = None
    trainer.checkpoints, trainer.latest = checkpoints, latest
    if (found := checkpoints.latest()) is not None:
        saved = unpack(found.values["tree"], found.tensors)
        latest |= saved["latest"]
        if "optimizer" not in saved:
            restore_weights(trainer, saved)
            trainer.state.global_step = saved["trainer"]["global_step"]
            return
        trainer.saved, folder = saved, Path(trainer.args.output_dir) / "resumed"
        folder.mkdir(parents=True)
        (folder / TRAINER_STATE_NAME).write_text(json.dumps(saved["trainer"]), encoding="utf-8")
        del saved
    del found  # else it would be held until the last step
    trainer.add_callback(Resume(trainer))
    with checkpoints.stop.deferred():  # to the end of a step
        trainer.train(resume_from_checkpoint=folder and str(folder))


# ---------------------------------------------------------------------------------------- the state


def capture(trainer: Any) -> Saved:
    """All that the next step depends on. The weights are the live ones, not copies."""
    state = dataclasses.asdict(dataclasses.replace(trainer.state, stateful_callbacks={}))
    tree: dict[str, Any] = {
        "weights": weights_of(trainer),
        "trainer": state,
        "latest": trainer.latest,
    }
    if trainer.state.global_step < trainer.state.max_steps:
        tree |= {
            "optimizer": trainer.optimizer.state_dict(),
            "scheduler": trainer.lr_scheduler.state_dict(),
            "generators": generators(trainer.sampling),
            "epoch_generators": trainer.epoch_generators,
            "counts": {n: getattr(trainer, n) for n in COUNTED if hasattr(trainer, n)},
            "metrics": dict(trainer._metrics["train"]),
        }
    tensors: dict[str, Tensor] = {}
    return Saved(tensors, {"tree": pack(tree, tensors)})


def weights_of(trainer: Any) -> dict[str, Tensor]:
    """All weights that a step may change, by name."""
    weights = {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}
    if getattr(trainer.args, "sync_ref_model", False):
        weights |= {f"reference/{n}": p for n, p in trainer.ref_model.named_parameters()}
    return weights


def restore_weights(trainer: Any, saved: dict[str, Any]) -> None:
    weights = weights_of(trainer)
    assert weights.keys() == saved["weights"].keys(), "weights of another model"
    with torch.no_grad():
        for name, parameter in weights.items():
            parameter.copy_(saved["weights"][name])


def restore_counts(trainer: Any, saved: dict[str, Any]) -> None:
    for name, value in saved["counts"].items():
        setattr(trainer, name, value)
    trainer._metrics["train"] = defaultdict(list, saved["metrics"])


def generators(sampling: torch.Generator | None = None) -> dict[str, Any]:
    """The states of all global generators, from any of which libraries draw, and a sampler's."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "sampling": None if sampling is None else sampling.get_state(),
    }


def restore_generators(states: dict[str, Any], sampling: torch.Generator | None) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
    if sampling is not None:
        sampling.set_state(states["sampling"])


# ------------------------------------------------------------------------------- trees of tensors


def pack(tree: Any, tensors: dict[str, Tensor], name: str = "") -> Any:
    """A tree as JSON, its tensors apart under the names of their places.

    Raises:
        TypeError: something in it is neither a tensor nor plain.
    """
    if isinstance(tree, Tensor):
        same = next((known for known, tensor in tensors.items() if tensor is tree), name)
        tensors[same] = tree
        return {"tensor": same}
    if isinstance(tree, dict):
        return {"dict": [[k, pack(v, tensors, f"{name}/{k}")] for k, v in tree.items()]}
    if isinstance(tree, list | tuple):
        packed = [pack(each, tensors, f"{name}/{i}") for i, each in enumerate(tree)]
        return {"tuple": packed} if isinstance(tree, tuple) else packed
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise TypeError(f"{name}: a {type(tree).__name__} cannot be saved")


def unpack(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(tree, list):
        return [unpack(each, tensors) for each in tree]
    match tree:
        case {"tensor": name}:
            return tensors[name]
        case {"dict": items}:
            return {key: unpack(value, tensors) for key, value in items}
        case {"tuple": items}:
            return tuple(unpack(each, tensors) for each in items)
    return tree
