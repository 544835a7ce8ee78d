"""Two steps of every stage with a tiny model of each architecture, or one line before SFT."""

from __future__ import annotations

import json
import math

import pytest

from tests import architectures
from tests.stages.world import World, rows

KINDS = ["llama", "qwen3", "qwen3_moe", "qwen3_5", "gemma2", "gemma3", "mistral", "phi3"]
KINDS += ["gpt2", "olmo2"]
WITH_LORA = ["qwen3_moe", "qwen3_5", "gemma3", "gpt2"]
"""Experts without adapters, recurrent layers, a decoder inside a wrapper, Conv1D for Linear."""
SMALL = {"evaluate": ["max_new_tokens=6", "bootstrap=20", "policies=[base, sft, dpo, ppo]"]}


def world(folder, kind: str, *, lora: bool = False) -> World:
    made = World(folder, model=architectures.build(kind, scale=0.05))
    made.recipe["data"]["evaluation"] = made.write("evaluation.jsonl", rows(32)[20:])
    if lora:
        for stage in ("sft", "reward", "dpo", "ppo"):
            made.recipe[stage]["lora"] = {"r": 4, "alpha": 8}
    return made


def errors(capsys) -> list[str]:
    """What the command said last, apart from what transformers writes as it loads."""
    lines = capsys.readouterr().err.splitlines()
    return lines[next(i for i, line in enumerate(lines) if line.startswith("error:")) :]


@pytest.mark.parametrize(
    ("kind", "lora"), [*((kind, False) for kind in KINDS), *((kind, True) for kind in WITH_LORA)]
)
def test_every_stage_takes_two_steps(tmp_path, capfd, kind, lora):
    """DPO starts at ln 2, PPO at no divergence, and the KL of a policy that moved is measured."""
    made = world(tmp_path, kind, lora=lora)
    for stage in ("sft", "reward", "dpo", "ppo", "evaluate"):
        assert made.run(stage, *SMALL.get(stage, ())) == 0, capfd.readouterr().err
    assert made.curve("dpo")[0]["dpo/rewards/margins"] == pytest.approx(0, abs=1e-4)
    assert made.curve("ppo")[0]["ppo/kl/sequence"] == pytest.approx(0, abs=1e-4)
    summary = json.loads((made.out("evaluate") / "summary.json").read_text("utf-8"))
    assert set(summary["policies"]) == {"base", "sft", "dpo", "ppo"}
    assert math.isfinite(made.manifest("evaluate")["metrics"]["evaluate/kl_sequence/dpo"])


@pytest.mark.parametrize("kind", ["mamba2", "mamba", "lfm2", "llama4_text"])
def test_an_architecture_without_a_reward_model_is_refused_before_sft(tmp_path, capsys, kind):
    made = world(tmp_path, kind)
    assert made.run("sft") == 2
    (line,) = errors(capsys)
    assert f"transformers has no {kind} model with a scalar head `score`" in line
    assert not made.out("sft").exists()


def test_it_is_taken_where_no_reward_model_is_to_be_trained(tmp_path, capsys):
    """Mamba 2 through SFT and DPO."""
    made = world(tmp_path, "mamba2")
    made.recipe["parents"] = {"reward": str(tmp_path / "elsewhere")}
    assert made.run("sft") == made.run("dpo") == 0, capsys.readouterr().err


def test_an_architecture_that_is_sampled_wrongly_is_refused_before_sft(tmp_path, capsys):
    made = world(tmp_path, "rwkv")
    made.recipe["ppo"]["reward_model"] = {"path": str(made.base)}
    assert made.run("sft") == 2
    (line,) = errors(capsys)
    assert line.startswith("error: RwkvForCausalLM samples from other distributions")
    assert not made.out("sft").exists()
