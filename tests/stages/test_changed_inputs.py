"""Every stage asks, once it has read, whether that is still what was hashed."""

from __future__ import annotations

import pytest

from align.runs.freshness import Reading
from tests.stages.world import World

FILES = {
    "sft": "pairs.jsonl",
    "reward": "pairs.jsonl",
    "dpo": "pairs.jsonl",
    "kto": "pairs.jsonl",
    "ppo": "runs/recipe/reward/model/model.safetensors",
    "rloo": "runs/recipe/sft/model/model.safetensors",
    "grpo": "pairs.jsonl",
    "evaluate": "runs/recipe/sft/model/config.json",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("changed"))
    world.recipe["evaluate"] = {"policies": ["base", "sft"]}
    world.recipe["data"]["evaluation"] = world.recipe["data"]["prompts"]
    assert world.run("sft") == world.run("reward") == 0
    return world


@pytest.mark.parametrize("name", FILES)
def test_a_file_written_anew_while_a_stage_starts_ends_it_with_code_75(
    world, monkeypatch, capsys, name
):
    """F4: also where the file is in the end as it was in the beginning."""
    begin, file = Reading.__init__, world.folder / FILES[name]

    def then_written(self, *args):
        begin(self, *args)
        file.write_bytes(file.read_bytes())

    monkeypatch.setattr(Reading, "__init__", then_written)
    run = f"run={name}"
    capsys.readouterr()
    assert world.run(name, run, *(world.parents() if name != "sft" else ())) == 75
    told = f"error: {name}: {file} changed while the stage was reading it; run the same command ag"
    assert capsys.readouterr().err.startswith(told)
    assert not (world.folder / "runs" / name / name).exists()
