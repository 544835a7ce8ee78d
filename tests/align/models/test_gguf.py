"""A base model in one GGUF file trains like the folder that it was made from."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from align.config import LoraSection, ModelSource
from align.data import chat
from align.messages.errors import ConfigError
from align.models import load as models
from align.models import publish
from align.sampling.self_check import read_positions
from tests import gguf_files, tiny

CPU = torch.device("cpu")
IDS = torch.tensor([[5, 90, 131, 7, 260, 44]])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model of 소라") / "tiny.gguf"
    gguf_files.write(path, tiny.llama(), tiny.tokenizer())
    return path


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_a_gguf_file_is_the_model_that_was_written(file):
    model = models.load_causal_lm(file, device=CPU)
    assert model.dtype == torch.float32
    torch.testing.assert_close(logits(model), logits(tiny.llama()), rtol=0, atol=1e-6)
    assert read_positions(file) == 256


def test_its_tokenizer_writes_the_same_ids(file):
    read, own = models.load_tokenizer(file), tiny.tokenizer()
    for text in tiny.TEXT:
        rows = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
        assert chat.encode(read, rows) == chat.encode(own, rows)
    assert (chat.stop_id(read), read.pad_token_id) == (1, 0)


def test_a_reward_model_grows_from_it(file):
    folder_like = models.load_reward_model(file, pad_id=0, device=CPU)
    trunk, plain = folder_like.base_model.state_dict(), tiny.llama().model.state_dict()
    assert all(torch.equal(trunk[name], plain[name]) for name in plain)


@pytest.mark.parametrize("lora", [False, True])
def test_what_is_published_needs_no_gguf(file, tmp_path, lora):
    """`model/` loads as any folder; the card's own lines load the adapter."""
    model = models.load_causal_lm(file, device=CPU)
    if lora:
        model = models.add_lora(model, LoraSection(r=2, alpha=4.0), task="causal")
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.05)
    expected = logits(model.eval())
    publish.save(model, models.load_tokenizer(file), tmp_path, base=publish.Base(str(file)))
    config = json.loads((tmp_path / "model" / "config.json").read_text("utf-8"))
    assert "quantization_config" not in config
    again = models.load_causal_lm(tmp_path / "model", device=CPU)
    torch.testing.assert_close(logits(again), expected, rtol=0, atol=1e-5)
    if lora:
        card = (tmp_path / "adapter" / "README.md").read_text("utf-8")
        code = card.split("```python\n")[1].split("```")[0]
        code = code.replace("path/to/adapter", str(tmp_path / "adapter"))
        code += f"\nimport torch; print(model(torch.tensor({IDS.tolist()})).logits.tolist())"
        done = subprocess.run(
            [sys.executable, "-I", "-c", code], cwd="/", capture_output=True, text=True, check=True
        )
        outside = torch.tensor(json.loads(done.stdout.strip().splitlines()[-1]))
        torch.testing.assert_close(outside, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"version https://git-lfs\n", None])
def test_a_broken_gguf_file_is_one_line(file, tmp_path, content):
    """Empty, a header alone, a Git LFS pointer, cut in the middle."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(file.read_bytes()[:20000] if content is None else content)
    for load in (models.load_tokenizer, lambda p: models.load_causal_lm(p, device=CPU)):
        with pytest.raises(ConfigError, match=r"cannot load a model from .*broken\.gguf") as e:
            load(broken)
        assert "\n" not in str(e.value)


def test_another_file_is_another_model(file, tmp_path):
    """make watches the file itself."""
    source = ModelSource(path=str(file))
    assert source.is_local and source.witness == file
    assert not ModelSource(path=str(tmp_path / "none.gguf")).is_local
