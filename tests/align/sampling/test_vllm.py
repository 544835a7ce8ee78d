"""What vLLM is asked for, on a stand-in: the policy's weights of now, the whole distribution."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from peft import get_peft_model

from align.data import EncodedPrompt
from align.messages.errors import ConfigError
from align.models.adapters import merged, plain_weights
from align.ppo import train as ppo
from align.ppo.samplers import sampler_for
from tests import tiny, tiny_roles, vllm_stand_in
from tests.tiny_ppo import generator
from tests.tiny_roles import PROMPTS, Log

SWITCH = "VLLM_ENABLE_V1_MULTIPROCESSING"


@pytest.fixture
def vllm(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", vllm_stand_in)
    monkeypatch.setattr(vllm_stand_in.LLM, "started", [])
    monkeypatch.setenv(SWITCH, "")
    monkeypatch.delenv(SWITCH)
    return vllm_stand_in


def make(layout, tmp_path):
    return tiny_roles.separate() if layout == "separate" else tiny_roles.shared(tmp_path)


@pytest.mark.parametrize("layout", ["separate", "shared"])
def test_ppo_samples_with_the_weights_of_each_iteration(layout, tmp_path, vllm):
    """P3: sampler and trainer agree to 1e-4 nats in all three, though the policy has moved."""
    log, config = Log(), tiny_roles.config(iterations=3, sampler="vllm", temperature=0.7)
    ppo.train(make(layout, tmp_path), PROMPTS, config, tracker=log, seed=0)
    assert all(row["ppo/sampler/gap_max"] < 1e-4 for row in log.rows)
    assert all(row["ppo/start/ratio_gap_max"] < 1e-4 for row in log.rows)
    assert log.rows[-1]["ppo/kl/token_k3"] > 1e-3
    (engine,) = vllm.LLM.started
    assert engine.loads == 3


def test_vllm_is_asked_for_the_whole_distribution_and_nothing_else(vllm):
    """P1, P2: no cut, no penalty, none of the model's own settings; logprobs after temperature."""
    roles = tiny_roles.separate(stop_ids=[7, 1, 7])
    config = tiny_roles.config(sampler="vllm", temperature=0.7, vllm_memory=0.4)
    ppo.sample(roles, PROMPTS, config, generator=generator())
    (engine,) = vllm.LLM.started
    assert engine.settings == {
        "load_format": "dummy",
        "skip_tokenizer_init": True,
        "generation_config": "vllm",
        "dtype": "float32",
        "gpu_memory_utilization": 0.4,
        "logprobs_mode": "processed_logprobs",
    }
    for params in engine.asked:
        assert (params.temperature, params.max_tokens) == (0.7, 8)
        assert (params.top_p, params.top_k, params.min_p) == (1.0, 0, 0.0)
        assert params.repetition_penalty == 1.0
        assert (params.stop_token_ids, params.ignore_eos) == ([1, 7], True)
        assert params.logprobs == 0
    assert os.environ[SWITCH] == "0"


def test_responses_come_in_the_order_of_the_prompts_and_by_the_generators_word(vllm):
    """Two each, of two equal prompts too; another seed gives others."""
    roles, prompts = tiny_roles.separate(), [EncodedPrompt(ids) for ids in ([5, 9], [5, 9], [7])]
    config = tiny_roles.config(sampler="vllm", responses_per_prompt=2, rollout_batch_size=6)
    sampler_of = sampler_for(roles, config)
    drawn = [
        ppo.sample(roles, prompts, config, generator=generator(seed), sampler_of=sampler_of)
        for seed in (0, 0, 1)
    ]
    (samples, sequences), (again, _), (others, _) = drawn
    assert samples == again != others
    assert samples[:2] != samples[2:4]
    starts = [ids[mask][:2].tolist() for ids, mask in zip(*parts(sequences), strict=True)]
    assert starts == [[5, 9]] * 4 + [[7, sample.response[0]] for sample in samples[4:]]
    direct = vllm.LLM.started[0]._answer([7], vllm.LLM.started[0].asked[2]).outputs[::-1]
    assert [list(each.token_ids) for each in direct] == [each.response for each in samples[4:]]
    assert {each.finished for each in samples} == {True, False}


def parts(sequences):
    return sequences.input_ids, sequences.attention_mask


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_engine_gets_plain_weights_with_the_adapter_folded_in(dtype):
    """In bfloat16 the adapter runs beside the base and is folded into what is handed over."""
    model = get_peft_model(tiny.llama().to(dtype), tiny_roles.lora())
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    with merged(model):
        weights = {name: w.clone() for name, w in plain_weights(model.get_base_model())}
    untouched = dict(plain_weights(tiny.llama().to(dtype)))
    plain = model.merge_and_unload().state_dict()
    assert weights.keys() == untouched.keys() == plain.keys() - {"lm_head.weight"}
    for name, weight in weights.items():
        assert weight.dtype == dtype
        torch.testing.assert_close(
            weight, plain[name], rtol=1e-2 if dtype != torch.float32 else 1e-6, atol=1e-6
        )
    moved = [name for name in weights if not torch.equal(weights[name], untouched[name])]
    assert len(moved) == 14


def test_an_engine_of_bfloat16_arithmetic_computes_in_bfloat16(vllm):
    """Weights stay float32 for the trainer; P3: the gap is rounding, and PPO measures afresh.

    In float32 the mean gap is 5e-7. A pass holds one row: some CPUs round a row by the width of
    its batch, as much as the engine does; alone and measured afresh it starts at a ratio of 1.
    """
    log, roles = Log(), tiny_roles.separate(compute_dtype=torch.bfloat16)
    config = tiny_roles.config(iterations=1, sampler="vllm", importance_cap=2.0, micro_batch_size=1)
    ppo.train(roles, PROMPTS, config, tracker=log, seed=0)
    assert vllm.LLM.started[0].settings["dtype"] == "bfloat16"
    assert 1e-3 < log.rows[0]["ppo/sampler/gap_mean"] < 0.05
    assert log.rows[0]["ppo/start/ratio_gap_max"] < 1e-4


def test_without_vllm_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.setenv(SWITCH, "0")
    config = tiny_roles.config(sampler="vllm")
    with pytest.raises(ConfigError, match=r"^ppo\.sampler=vllm: .* pip install -e '\.\[vllm\]'"):
        ppo.train(tiny_roles.separate(), PROMPTS, config, tracker=Log(), seed=0)


def test_vllm_is_not_imported_before_it_is_chosen():
    code = "import align.ppo.train, sys; print('align.sampling.vllm' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False"]
