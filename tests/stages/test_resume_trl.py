"""Stages of TRL that are stopped and run again end as if nobody had stopped them."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch

from stages.support import resume
from stages.support.resume import Resume
from tests.stages.resuming import differences, stopped_in
from tests.stages.world import LORA, World

STEPS = 7
"""More than two epochs of twenty rows, eight to a step; the last step of an epoch has four."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("resume"))
    for name in ("sft", "reward", "dpo", "kto"):
        world.recipe[name]["trainer"] = {
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 2,
            "max_steps": STEPS,
            "learning_rate": 1e-2,
            "logging_steps": 3,
            "lr_scheduler_type": "cosine",
        }
    world.recipe["ppo"] |= {"iterations": 3, "epochs": 2, "learning_rate": 1e-2, "minibatches": 2}
    assert world.run("sft", "run=parents") == world.run("reward", "run=parents") == 0
    return world


def run(world, stage, name, *items):
    needed = {"sft": (), "reward": ("sft",)}.get(stage, ("sft", "reward"))
    return world.run(stage, f"run={name}", *world.parents("parents", needed), *items)


def stopped(monkeypatch, world, stage, name, steps, *items):
    """Run a stage that is told to stop while it takes a step, the n-th of this process."""
    with stopped_in(monkeypatch, Resume, "on_step_end", steps):
        return run(world, stage, name, *items)


def left_over(world, name):
    left = {path.name for path in (world.folder / "runs" / name).iterdir()}
    return [name for name in left if name.startswith(".tmp-") or name == ".checkpoints"]


READS = {"sft": "instructions", "rloo": "prompts", "grpo": "prompts"}


def lora(stage):
    return (
        f"lora={json.dumps(LORA)}"
        if stage not in ("rloo", "grpo")
        else f"ppo.lora={json.dumps(LORA)}"
    )


@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "kto", "rloo", "grpo"])
def test_a_stopped_stage_goes_on_to_the_same_weights_and_curve(
    world, monkeypatch, capsys, stage, kind
):
    """Stopped at the end of an epoch, and in the middle of one, between two logs."""
    items = [lora(stage)] if kind == "lora" else []
    whole, name = f"{stage}-{kind}", f"{stage}-{kind}-stopped"
    assert run(world, stage, whole, *items) == 0
    for steps, reached in ((3, 3), (2, 5)):
        capsys.readouterr()
        assert stopped(monkeypatch, world, stage, name, steps, *items) == 143
        assert f"saved at {reached}/" in capsys.readouterr().out
    assert run(world, stage, name, *items) == 0
    out = capsys.readouterr().out
    assert f"{stage:<9}encoded {READS.get(stage, 'preferences')}: kept from before\n" in out
    assert f"{stage:<9}resumes at step 5 from a checkpoint" in out
    assert differences(world, stage, name, whole) == left_over(world, name) == []


SECOND_PASS = [
    "data.prompts.max_rows=2",
    "ppo.minibatches=1",
    "ppo.epochs=1",
    "trainer.max_steps=7",
]
FOLLOWING = ["trainer.sync_ref_model=true", "trainer.ref_model_sync_steps=2"]


@pytest.mark.parametrize(
    ("stage", "step", "items"),
    [
        ("rloo", 4, SECOND_PASS),  # TRL's sampler draws each pass with a generator of its own
        ("grpo", 4, SECOND_PASS),
        ("grpo", 5, FOLLOWING),  # the reference is trained weights mixed in
        ("dpo", 3, FOLLOWING),
        ("kto", 3, FOLLOWING),
    ],
)
def test_what_a_trainer_keeps_to_itself_goes_on_too(world, monkeypatch, stage, step, items):
    whole, name = f"{stage}-keeps-{len(items)}", f"{stage}-keeps-{len(items)}-stopped"
    assert run(world, stage, whole, *items) == 0
    assert stopped(monkeypatch, world, stage, name, step, *items) == 143
    assert run(world, stage, name, *items) == 0
    assert differences(world, stage, name, whole) == left_over(world, name) == []


GROUPED = "trainer.train_sampling_strategy=group_by_length"


@pytest.mark.parametrize(
    ("part", "items"),
    [
        ("generators", [lora("sft")]),  # its dropout draws
        ("epoch_generators", [GROUPED]),  # the order of an epoch is drawn
        ("scheduler", []),
        ("optimizer", []),
        ("counts", []),
        ("metrics", []),
        (None, [GROUPED, lora("sft")]),
    ],
)
def test_a_part_of_the_state_that_is_forgotten_shows(world, monkeypatch, part, items):
    """Stopped between two logs, in the second epoch."""
    whole, name = f"sft-but-{part}", f"sft-without-{part}"
    assert run(world, "sft", whole, *items) == 0
    assert stopped(monkeypatch, world, "sft", name, 5, *items) == 143
    forget = {
        "generators": lambda: resume.generators(),
        "epoch_generators": lambda: resume.generators(),
        "counts": dict,
        "metrics": dict,
    }
    unpack = resume.unpack

    def forgetful(tree, tensors):
        saved = unpack(tree, tensors)
        if part in forget and isinstance(saved, dict) and "latest" in saved:
            saved[part] = forget[part]()
        if part in ("scheduler", "optimizer") and isinstance(saved, dict) and "latest" in saved:
            saved[part] = fresh(saved[part])
        return saved

    monkeypatch.setattr(resume, "unpack", forgetful)
    assert run(world, "sft", name, *items) == 0
    assert bool(differences(world, "sft", name, whole)) == (part is not None)


def fresh(state):
    """The state of an optimiser or a scheduler that has made no step."""
    if "param_groups" in state:
        return state | {"state": {}}
    return state | {"last_epoch": 0, "_step_count": 1}


@pytest.mark.parametrize("stage", ["sft", "reward", "ppo"])
def test_a_model_that_could_not_be_published_is_published_by_the_next_start(
    world, monkeypatch, capsys, stage
):
    """The disk is full at the rename that publishes; nothing is trained a second time."""
    assert run(world, stage, f"{stage}-whole") == 0
    name, rename = f"{stage}-unpublished", Path.rename

    def full(self, target):
        if Path(target).name == stage and self.name.startswith(".tmp-"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", full)
        assert run(world, stage, name) == 75
    error = capsys.readouterr().err
    assert "cannot be published: No space left on device" in error
    assert error.count("\n") == 1
    monkeypatch.setattr(torch.Tensor, "backward", None)
    assert run(world, stage, name) == 0
    assert "resumes at" in capsys.readouterr().out
    assert differences(world, stage, name, f"{stage}-whole") == left_over(world, name) == []
