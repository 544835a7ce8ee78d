"""A model that cannot be read whole is refused in one line."""

from __future__ import annotations

import json

import pytest
import torch

from align.messages.errors import ConfigError
from align.models import load as models
from tests import tiny

CPU = torch.device("cpu")


@pytest.mark.parametrize("load", [models.load_tokenizer, models.load_causal_lm])
def test_a_folder_without_a_model_is_one_line_with_a_remedy(tmp_path, load):
    arguments = {"device": CPU} if load is models.load_causal_lm else {}
    with pytest.raises(ConfigError, match=r"cannot load a model from .*; give a folder") as caught:
        load(tmp_path, **arguments)
    assert "\n" not in str(caught.value)


def edited(folder, **values):
    """Write other values into a saved model's config.json."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | values), "utf-8")


LOADERS = {
    "causal": lambda folder: models.load_causal_lm(folder, device=CPU),
    "reward": lambda folder: models.load_reward_model(folder, pad_id=0, device=CPU),
}


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("values", [{"num_hidden_layers": 3}, {"intermediate_size": 48}])
def test_a_model_is_refused_if_transformers_would_draw_weights_of_it_at_random(
    tmp_path, kind, values
):
    """A layer that the file lacks, and one that has another shape than config.json says."""
    tiny.llama().save_pretrained(tmp_path)
    LOADERS[kind](tmp_path)
    edited(tmp_path, **values)
    with pytest.raises(
        ConfigError, match=r"no weights of the right shape for model\.layers\."
    ) as e:
        LOADERS[kind](tmp_path)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("kind", LOADERS)
def test_broken_files_of_a_model_are_one_line(tmp_path, kind):
    """Weights cut short, a Git LFS pointer in their place, a word where a number belongs."""
    tiny.llama().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    for broken in (whole[:1000], b"version https://git-lfs.github.com/spec/v1\n"):
        weights.write_bytes(broken)
        with pytest.raises(ConfigError, match=r"cannot load a model.*; give a folder") as caught:
            LOADERS[kind](tmp_path)
        assert "\n" not in str(caught.value)
    weights.write_bytes(whole)
    edited(tmp_path, hidden_size="wide")
    with pytest.raises(ConfigError, match=r"'hidden_size'.*; give a folder"):
        LOADERS[kind](tmp_path)
