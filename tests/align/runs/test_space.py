import json
import shutil
from collections import namedtuple

import pytest
import torch
from safetensors.torch import save_file

from align.config.recipe import load_recipe
from align.messages.errors import RetryableError
from align.runs import inputs, space
from align.runs.space import Room, needed, of_all, weight_shapes
from stages import sft

SHAPES = {"model.embed_tokens.weight": (10, 4), "model.layers.0.q_proj.weight": (6, 4)}
"""40 and 24 numbers, and 4 more below: 68 in all, 272 bytes of float32."""


@pytest.fixture
def recipe_of(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "GPU_FILES", ())
    tensors = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    save_file(tensors | {"model.norm.weight": torch.ones(4)}, tmp_path / "m.safetensors")
    text = json.dumps({"name": "r", "model": {"path": str(tmp_path)}, "data": {}})
    (tmp_path / "r.yaml").write_text(text)
    return lambda *items: load_recipe(tmp_path / "r.yaml", items)


LORA = "{'r': 3}"
"""On the one matrix of a layer: 3 · (6 + 4) = 30 numbers, 120 bytes."""


@pytest.mark.parametrize(
    ("stage", "items", "room"),
    [
        ("sft", [], Room(272, 272 + 272, 272 + 3 * 3 * 272)),
        ("sft", [f"sft.lora={LORA}"], Room(392, 392 + 120, 392 + 3 * 3 * 120)),
        (
            "sft",
            [f"sft.lora={LORA}", "model.dtype=bfloat16"],
            Room(256, 256 + 120, 256 + 3 * 3 * 120),
        ),
        ("ppo", [], Room(272, 272 + 272, 272 + 3 * 2 * 3 * 272)),
        ("grpo", [f"ppo.lora={LORA}"], Room(392, 392 + 120, 392 + 3 * 3 * 120)),
        ("evaluate", [], None),
    ],
)
def test_a_stage_writes_its_model_and_three_checkpoints_at_most(
    recipe_of, tmp_path, stage, items, room
):
    """Two are kept while a third is written; each holds the trained weights and two moments."""
    assert needed(stage, recipe_of(*items), weight_shapes(tmp_path)) == room


def test_stages_write_beside_what_those_before_them_published():
    """10, then 10 + 5 + 4 at the second, and 15 + 20 at the third, which keeps no checkpoint."""
    rooms = [Room(10, 12, 30), Room(5, 9, 24), None, Room(20, 20, 20)]
    assert of_all(rooms) == Room(35, 35, 35)
    assert of_all(rooms[:2]) == Room(15, 19, 34)
    assert of_all([]) == Room(0, 0, 0)


def test_weights_that_are_on_the_hub_are_not_known_yet(recipe_of, tmp_path):
    (tmp_path / "empty").mkdir()
    assert needed("sft", recipe_of(), weight_shapes(tmp_path / "empty")) is None
    (tmp_path / "empty" / "m.safetensors").write_bytes(b"no weights, and a length of nonsense")
    assert needed("sft", recipe_of(), weight_shapes(tmp_path / "empty")) is None


@pytest.fixture
def free(monkeypatch):
    """So many bytes are free on every disk."""
    usage = namedtuple("usage", "total used free")
    return lambda count: monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, count))


def test_a_disk_too_small_for_the_model_is_refused_with_need_free_and_place(
    recipe_of, tmp_path, free
):
    free(543)
    with pytest.raises(RetryableError) as caught:
        space.check(sft.STAGE, recipe_of(), tmp_path, tmp_path)
    assert str(caught.value) == (
        f"sft: writes at least 1 MiB, and 1 MiB are free at {tmp_path}; free what is short, or "
        "give runs_dir=FOLDER of another disk"
    )
    assert caught.value.exit_code == 75


def test_where_checkpoints_may_fill_the_disk_that_is_told_and_the_stage_runs(
    recipe_of, tmp_path, free
):
    most = 272 + 3 * 3 * 272
    free(most - 1)
    told = space.check(sft.STAGE, recipe_of(), tmp_path, tmp_path)
    assert told == (
        f"warning: writes up to 1 MiB with its checkpoints, and 1 MiB are free at {tmp_path}"
    )
    free(most)
    assert space.check(sft.STAGE, recipe_of(), tmp_path, tmp_path) is None
    kept = tmp_path / ".checkpoints" / "sft" / "sft-step-1"
    kept.mkdir(parents=True)
    (kept / "state.safetensors").write_bytes(bytes(1000))
    free(most - 1000)  # those of an earlier attempt are not written again
    assert space.check(sft.STAGE, recipe_of(), tmp_path, tmp_path) is None
