import math

import pytest
import torch
from safetensors.torch import save_file

from align.messages.errors import DivergedError
from align.runs import artifacts
from align.runs.artifacts import publish, read_artifact, workspace
from align.runs.checkpoints import Checkpoints, Saved
from align.runs.finite import first_not_finite
from align.runs.manifest import Manifest

TOLD = "{} is not finite after step 7, so it is neither published nor saved; lower the learning"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.float8_e5m2]
)
def test_the_tensor_with_a_number_that_is_not_finite_is_named(value, dtype):
    bad = torch.zeros(3, 2)
    bad[2, 1] = value
    tensors = {"good": torch.ones(2, dtype=dtype), "bad": bad.to(dtype), "ids": torch.arange(3)}
    assert first_not_finite(tensors.items()) == "bad"
    del tensors["bad"]
    assert first_not_finite(tensors.items()) is None


def test_the_largest_numbers_are_finite_although_their_sum_is_not():
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        largest = torch.full((4,), torch.finfo(dtype).max, dtype=dtype)
        assert first_not_finite([("weight", largest)]) is None


@pytest.mark.parametrize("place", ["model", "adapter"])
def test_a_folder_with_such_a_tensor_is_not_published_and_the_old_one_stays(tmp_path, place):
    manifest = Manifest(stage="sft", fingerprint="", inputs={}, config={}, seed=0)
    for value in (1.0, math.nan):
        with workspace(tmp_path / "sft") as work:
            for name in ("model", "adapter"):
                (work / name).mkdir()
                held = value if name == place else 1.0
                save_file({"w": torch.tensor([held])}, work / name / "a.safetensors")
            if math.isnan(value):
                with pytest.raises(DivergedError, match="^sft: " + TOLD.format("w")):
                    publish(work, tmp_path / "sft", manifest, step=7)
            else:
                publish(work, tmp_path / "sft", manifest)
    assert read_artifact(tmp_path / "sft").manifest.files.keys() == {
        "model/a.safetensors",
        "adapter/a.safetensors",
    }


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path, "ppo", {"seed": 0})


def state(value):
    moments = torch.tensor([1.0, value])
    return Saved({"policy/weight/0": torch.ones(2), "policy/adam/0/exp_avg": moments}, {})


def test_a_checkpoint_with_such_a_moment_is_not_written(checkpoints):
    checkpoints.save(6, state(0.0))
    with pytest.raises(DivergedError, match=TOLD.format("policy/adam/0/exp_avg")):
        checkpoints.save(7, state(math.inf))
    assert checkpoints.latest(9).tensors["policy/adam/0/exp_avg"][1] == 0.0


def test_one_that_was_written_by_an_earlier_version_is_put_aside(
    checkpoints, tmp_path, monkeypatch, capsys
):
    checkpoints.save(6, state(0.0))
    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "check_files", lambda *_, **__: None)
        checkpoints.save(7, state(math.nan))
    assert checkpoints.latest(9).tensors["policy/adam/0/exp_avg"][1] == 0.0
    told = "ppo      ppo-step-7: policy/adam/0/exp_avg is not finite after step 7"
    assert capsys.readouterr().out.startswith(told)
    assert (tmp_path / "quarantine" / "ppo-step-7-1").is_dir()
