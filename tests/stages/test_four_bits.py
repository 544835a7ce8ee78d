"""A base in four bits through every stage, on the CPU."""

from __future__ import annotations

import pytest
import torch

from tests import tiny
from tests.align.models.test_quantized import MISSING
from tests.stages.world import LORA, World, rows, weights

pytest.importorskip("bitsandbytes", reason=MISSING)

NAMES = ("sft", "reward", "dpo", "kto", "ppo")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("world"), model=tiny.llama(1, hidden_size=64))
    world.recipe["model"]["load_in_4bit"] = True
    for name in NAMES:
        world.recipe[name]["lora"] = LORA | {"dropout": 0.0}
    world.recipe["data"]["evaluation"] = world.write("evaluation.jsonl", rows(4))
    world.recipe["evaluate"] = {"policies": ["sft", "ppo"], "max_new_tokens": 6, "bootstrap": 100}
    return world


def test_every_stage_trains_adapters_in_float32_and_publishes_plain_weights(world):
    """DPO, KTO and PPO refuse themselves where policy and reference do not start as one."""
    for name in (*NAMES, "rloo", "evaluate"):
        assert world.run(name) == 0, name
    for name in (*NAMES, "rloo"):
        whole, adapter = (weights(world.out(name) / part) for part in ("model", "adapter"))
        assert {w.dtype for w in whole.values()} == {torch.float32}
        assert {w.dtype for w in adapter.values()} == {torch.float32}
        moved = [w for n, w in adapter.items() if "lora_B" in n]
        # TRL would have them bfloat16. No answer of these rollouts ends: RLOO has no gradient here.
        rounded = all(torch.equal(w, w.bfloat16().float()) for w in moved)
        assert rounded == (name == "rloo"), name
        assert "in four bits" in (world.out(name) / "adapter" / "README.md").read_text("utf-8")
    start = world.curve("ppo")[0]
    assert abs(start["ppo/kl/token_k3"]) < 1e-6
    assert start["ppo/sampler/gap_max"] < 1e-4


def test_full_training_is_refused_before_sft(world, capsys):
    assert world.run("sft", "lora=null") == 2
    told = capsys.readouterr().err
    assert told.startswith("error: model.load_in_4bit: sft.lora is not set")
    assert told.count("\n") == 1
