"""Decoding in fixed shapes gives the tokens of decoding in growing ones, recorded or not."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from align.sampling.decoding import Decoding, StaticDecoding, decoding_for
from align.sampling.sampler import ModelSampler
from tests import architectures, tiny

PROMPTS = [[5, 9, 40], [7], [8, 200, 31, 4, 90, 3], [11, 12], [60, 61, 62, 63, 64]] * 3
MODELS = [tiny.llama, tiny.gpt2]


def draw(model, decoding, **settings):
    """Samples of ragged lengths: 59 of 300 tokens stop."""
    settings = {"stop_ids": range(1, 60), "max_new_tokens": 12, "batch_size": 8} | settings
    torch.manual_seed(0)
    head = torch.nn.Linear(model.config.hidden_size, 1)
    sampler = ModelSampler(model, pad_id=0, value_head=head, **settings)
    sampler.decoding = decoding
    generator = torch.Generator().manual_seed(0)
    return sampler.sample(PROMPTS, generator=generator, responses_per_prompt=2)


def assert_same(samples, expected):
    assert [each.response for each in samples] == [each.response for each in expected]
    for one, other in zip(samples, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
        assert one.values == pytest.approx(other.values, abs=1e-5)
        assert len(one.values) == len(one.response)


@pytest.mark.parametrize("model", MODELS)
def test_fixed_shapes_give_the_same_samples(model):
    model = model()
    expected = draw(model, Decoding)
    assert len({len(each.response) for each in expected}) > 5
    assert_same(draw(model, StaticDecoding), expected)


@pytest.mark.parametrize("model", MODELS)
def test_every_step_reads_and_writes_the_same_tensors(model, monkeypatch):
    """What a graph needs: between two drops of rows no shape and no address changes."""
    addresses, plain = [], StaticDecoding._forward

    def forward(self):
        logits = plain(self)
        layers = [x.data_ptr() for layer in self.layers for x in (layer.keys, layer.values)]
        own = [x.data_ptr() for x in (self.tokens, self.positions, self.mask, self.slot)]
        addresses.append((*own, *layers))
        return logits

    monkeypatch.setattr(StaticDecoding, "_forward", forward)
    draw(model(), StaticDecoding, stop_ids=[299], batch_size=64)
    assert len(addresses) == 11  # the prompt gives the first of 12 tokens
    assert len(set(addresses)) == 1


class Recorder:
    """What CUDA does with a graph, played on the CPU: recording runs nothing, replaying all."""

    def __init__(self, monkeypatch) -> None:
        self.recorded, self.replayed, self.eager, self.open = 0, 0, 0, None
        plain, recorder = StaticDecoding._forward, self

        class Graph:
            def replay(self) -> None:
                recorder.replayed += 1
                self.output.copy_(plain(self.decoding))

        @contextmanager
        def graph(opened):
            recorder.open = opened
            recorder.recorded += 1
            yield
            recorder.open = None

        def forward(decoding):
            if recorder.open is None:
                recorder.eager += 1
                return plain(decoding)
            recorder.open.decoding = decoding
            recorder.open.output = torch.empty_like(decoding.logits[: len(decoding.tokens)])
            return recorder.open.output

        monkeypatch.setattr(StaticDecoding, "_forward", forward)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", graph)


class Recording(StaticDecoding):
    """As it is on CUDA."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.recording = True


def test_a_step_is_recorded_once_per_number_of_rows_and_then_replayed(monkeypatch):
    """12 tokens of 30 rows that never stop: the prompt, 2 eager steps, 9 replayed ones."""
    model = tiny.llama()
    expected = draw(model, Decoding, stop_ids=[299], batch_size=64)
    recorder = Recorder(monkeypatch)
    assert_same(draw(model, Recording, stop_ids=[299], batch_size=64), expected)
    assert (recorder.recorded, recorder.eager, recorder.replayed) == (1, 2, 9)


def test_it_is_recorded_anew_when_half_the_rows_have_gone(monkeypatch):
    model = tiny.llama()
    expected = draw(model, Decoding, batch_size=64)
    recorder = Recorder(monkeypatch)
    assert_same(draw(model, Recording, batch_size=64), expected)
    assert recorder.recorded > 1
    assert recorder.replayed > 0


def test_where_nothing_can_be_recorded_decoding_goes_on(monkeypatch):
    """One warning, the same samples."""

    def refuse():
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    model = tiny.llama()
    expected = draw(model, Decoding, batch_size=64)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", refuse)
    told = "CUDA does not record decoding, which goes on: operation not permitted$"
    with pytest.warns(UserWarning, match=told):
        samples = draw(model, Recording, batch_size=64)
    assert_same(samples, expected)


def on(device, config, attention="sdpa"):
    """What `decoding_for` reads of a model."""
    config._attn_implementation = attention
    return SimpleNamespace(device=torch.device(device), config=config)


def test_fixed_shapes_are_for_cuda_and_attention_that_takes_a_mask_as_it_is():
    config = tiny.llama().config
    assert decoding_for(on("cuda", config)) is StaticDecoding
    assert decoding_for(on("cpu", config)) is Decoding
    assert decoding_for(on("cuda", config, attention="eager")) is Decoding


@pytest.mark.parametrize(
    "kind", ["mistral", "mixtral", "phi3", "starcoder2", "gemma2", "gemma3", "llama4_text"]
)
def test_a_window_is_seen_with_layer_types_or_without(kind):
    """Mistral, Mixtral, Phi-3 and Starcoder 2 name `sliding_window` alone; .5 to 5 nats off."""
    assert decoding_for(on("cuda", architectures.config(kind))) is Decoding


def test_a_window_that_is_switched_off_is_none():
    config = architectures.config("mistral")
    config.sliding_window = None
    assert decoding_for(on("cuda", config)) is StaticDecoding


@pytest.mark.parametrize("kind", ["falcon", "mamba2", "qwen3_5", "jamba"])
def test_alibi_and_recurrent_states_are_not_for_fixed_shapes(kind):
    assert decoding_for(on("cuda", architectures.config(kind))) is Decoding
