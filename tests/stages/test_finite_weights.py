"""A last step that ruins the weights: nothing of it is published or saved, in any stage."""

from __future__ import annotations

import json

import pytest

from tests.stages.world import LORA, World

RUINOUS = 1e39
"""A learning rate beyond what float32 holds: the loss before the step is as it should be."""
CASES = {
    **{
        f"{name} {kind}": (name, kind)
        for name in ("sft", "reward", "dpo")
        for kind in ("full", "LoRA")
    },
    "kto": ("kto", "full"),
    "rloo": ("rloo", "full"),
    "grpo": ("grpo", "full"),
    "ppo full": ("ppo", "full"),
    "ppo LoRA": ("ppo", "LoRA"),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("finite"))
    assert world.run("sft") == world.run("reward") == 0
    return world


@pytest.mark.parametrize("case", CASES)
def test_weights_that_are_not_finite_after_the_last_step_end_in_one_line(world, capsys, case):
    """F2: the guards of loss and gradient see nothing of the last step."""
    name, kind = CASES[case]
    run = case.replace(" ", "-")
    items = [f"run={run}"]
    if name != "sft":
        items += [f"parents.sft={world.out('sft')}"]
    if name in ("ppo", "rloo", "grpo"):
        items += [f"parents.reward={world.out('reward')}", "ppo.iterations=1"]
        items += ["ppo.minibatches=1"] if name == "ppo" else [f"{name}.trainer.max_steps=1"]
        items += [f"ppo.learning_rate={RUINOUS}", f"ppo.value_learning_rate={RUINOUS}"]
    else:
        items += [f"{name}.trainer.learning_rate={RUINOUS}", f"{name}.trainer.max_steps=1"]
    if kind == "LoRA":
        items += [f"{name}.lora={json.dumps(LORA)}"]
    capsys.readouterr()
    assert world.run(name, *items) == 4
    _, err = capsys.readouterr()
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    assert err.startswith(f"error: {name}: ")
    assert "is not finite after step 1, so it is neither published nor saved; lower the l" in err
    run_dir = world.folder / "runs" / run
    assert not (run_dir / name).exists()
    kept = [path.parent.name for path in run_dir.rglob("*.safetensors")]
    assert all(name.rpartition("-")[0].endswith("-encoded") for name in kept)  # rows, no weights
