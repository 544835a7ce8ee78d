"""Roles load from safetensors, score at the right token, and are published as plain checkpoints."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from align.config import LoraSection
from align.maths.losses import bradley_terry_loss
from align.messages.errors import ConfigError
from align.models import load as models
from align.models import publish
from align.runs.artifacts import RETRYABLE
from align.sampling.self_check import sampler_gap
from tests import architectures, tiny

CPU = torch.device("cpu")
LORA = LoraSection(r=4, alpha=8.0, dropout=0.1)
SEQUENCES = [[3, 70, 71, 1, 4, 80, 1], [3, 70, 1], [3, 90, 91, 92, 93, 1]]


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "base"
    tiny.llama(1).save_pretrained(path)
    tiny.tokenizer().save_pretrained(path)
    return path


def reward_model(checkpoint, **kwargs):
    return models.load_reward_model(checkpoint, pad_id=0, device=CPU, **kwargs)


def test_a_new_head_is_normal_with_deviation_one_over_root_of_width_plus_one(tmp_path):
    """R3: Normal(0, 1/√(d + 1)) at d = 256, of the seed's drawing."""
    tiny.llama(hidden_size=256).save_pretrained(tmp_path)
    head = reward_model(tmp_path).score.weight
    assert head.shape == (1, 256)
    assert abs(head.std().item() * 257**0.5 - 1) < 0.15
    assert abs(head.mean().item()) * 257**0.5 < 0.2
    assert torch.equal(head, reward_model(tmp_path).score.weight)
    assert not torch.equal(head, reward_model(tmp_path, seed=1).score.weight)


def test_a_new_reward_model_starts_near_ln_2_and_a_zero_head_at_ln_2(checkpoint):
    """R3: the first loss is .69 to .85 on pairs that end alike; .6931 when the head is zero."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 300, (400, 6), generator=generator)
    ids[200:, :4], ids[:, -1] = ids[:200, :4], 1  # 200 prompts with two answers each
    losses = []
    for seed in range(5):
        model = reward_model(checkpoint, seed=seed)
        scores = torch.tensor(models.reward_scores(model, ids.tolist(), pad_id=0))
        losses.append(bradley_terry_loss(scores[:200], scores[200:]).loss.item())
    assert 0.69 < min(losses) <= max(losses) < 0.85
    torch.nn.init.zeros_(model.score.weight)
    scores = torch.tensor(models.reward_scores(model, ids.tolist(), pad_id=0))
    assert bradley_terry_loss(scores[:200], scores[200:]).loss.item() == pytest.approx(
        0.6931, abs=1e-4
    )


def test_a_trained_head_is_kept(checkpoint, tmp_path):
    model = reward_model(checkpoint)
    torch.nn.init.constant_(model.score.weight, 0.25)
    model.save_pretrained(tmp_path / "reward")
    assert torch.all(reward_model(tmp_path / "reward").score.weight == 0.25)


def test_scores_are_read_at_the_last_token_of_each_sequence(checkpoint):
    model = reward_model(checkpoint)
    batched = models.reward_scores(model, SEQUENCES, pad_id=0, batch_size=2)
    for sequence, score in zip(SEQUENCES, batched, strict=True):
        hidden = model.model(torch.tensor([sequence])).last_hidden_state
        assert score == pytest.approx(model.score(hidden[0, -1]).item(), abs=1e-5)
        assert score == pytest.approx(model(torch.tensor([sequence])).logits.item(), abs=1e-5)


@pytest.mark.parametrize("lora", [False, True])
def test_the_reward_head_is_float32_also_where_training_computes_in_bfloat16(checkpoint, lora):
    """Near 8 bfloat16 would round a score to .03, and so every margin of the loss."""
    model = reward_model(checkpoint)
    torch.nn.init.normal_(model.score.weight, std=2.0)
    trained = models.add_lora(model, LoraSection(r=4, alpha=8), task="reward") if lora else model
    ids = torch.tensor(SEQUENCES[0])[None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        score = trained(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        state = model.model(ids).last_hidden_state[0, -1]
    weight = next(p for n, p in trained.named_parameters() if "score" in n and p.requires_grad)
    assert score.dtype == torch.float32
    torch.testing.assert_close(score[0], weight @ state.float(), rtol=1e-5, atol=1e-5)
    score.sum().backward()
    torch.testing.assert_close(weight.grad[0], state.float(), rtol=1e-5, atol=1e-6)


def test_scores_do_not_depend_on_the_pad_token_even_if_it_is_the_stop_token(checkpoint):
    """R2: pad == stop, another pad, and another in the model's config give the same scores."""
    model = reward_model(checkpoint)
    expected = models.reward_scores(model, SEQUENCES, pad_id=0)
    for pad in (1, 70):
        model.config.pad_token_id = pad
        assert models.reward_scores(model, SEQUENCES, pad_id=pad) == pytest.approx(
            expected, abs=1e-5
        )


@pytest.mark.parametrize("task", ["causal", "reward"])
def test_a_fresh_adapter_changes_nothing_and_trains_only_itself(checkpoint, task):
    ids = torch.tensor(SEQUENCES[:1])
    if task == "causal":
        model = models.load_causal_lm(checkpoint, device=CPU)
    else:
        model = reward_model(checkpoint)
    before = model(ids).logits
    adapted = models.add_lora(model, LORA, task=task).eval()
    assert torch.equal(adapted(ids).logits, before)
    trained = {n for n, p in adapted.named_parameters() if p.requires_grad}
    assert all("lora_" in n or "score.modules_to_save" in n for n in trained)
    assert any("score.modules_to_save" in n for n in trained) == (task == "reward")
    assert any("lora_" in n for n in trained)


def test_dropout_is_off_in_modules_adapters_and_attention():
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        attention_dropout=0.5,
    )
    ids = torch.tensor(SEQUENCES[:1])
    for model in (LlamaForCausalLM(config), tiny.gpt2()):
        adapted = models.add_lora(model, LORA, task="causal").train()
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter)
        assert not torch.equal(adapted(ids).logits, adapted(ids).logits)
        models.disable_dropout(adapted)
        assert torch.equal(adapted(ids).logits, adapted(ids).logits)


def perturbed_adapter(model, task):
    adapted = models.add_lora(model, LORA, task=task)
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return adapted.eval()


GREEDY = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
path, adapter, base = sys.argv[1:4]
tokenizer = AutoTokenizer.from_pretrained(path)
prompt = tokenizer.apply_chat_template(
    [{"role": "user", "content": "Hello"}], add_generation_prompt=True, return_tensors="pt"
)["input_ids"]
model = AutoModelForCausalLM.from_pretrained(path)
print(model.generate(prompt, max_new_tokens=8, do_sample=False)[0].tolist())
if adapter != "-":
    from peft import PeftModel
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
    print(model.generate(input_ids=prompt, max_new_tokens=8, do_sample=False)[0].tolist())
assert "align" not in sys.modules
"""


@pytest.mark.parametrize("lora", [False, True])
def test_a_published_policy_loads_in_plain_transformers_with_the_same_greedy_output(
    checkpoint, tmp_path, lora
):
    tokenizer = models.load_tokenizer(checkpoint)
    model = models.load_causal_lm(checkpoint, device=CPU)
    model = perturbed_adapter(model, "causal") if lora else model
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}], add_generation_prompt=True, return_tensors="pt"
    )["input_ids"]
    expected = model.generate(input_ids=prompt, max_new_tokens=8, do_sample=False)[0].tolist()
    out = tmp_path / "out"
    publish.save(model, tokenizer, out, base=publish.Base(str(checkpoint)))
    assert (out / "adapter").exists() == lora
    adapter = str(out / "adapter") if lora else "-"
    printed = subprocess.run(
        [sys.executable, "-c", GREEDY, str(out / "model"), adapter, str(checkpoint)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert [json.loads(line) for line in printed.splitlines()] == [expected] * (1 + lora)


def test_a_reward_adapter_scores_alike_after_merging_and_reloading(checkpoint, tmp_path):
    """R4: the head is saved with the adapter and stands in the merged model."""
    model = perturbed_adapter(reward_model(checkpoint), "reward")
    expected = models.reward_scores(model, SEQUENCES, pad_id=0)
    publish.save(model, tiny.tokenizer(), tmp_path / "out", base=publish.Base(str(checkpoint)))
    merged = reward_model(tmp_path / "out" / "model")
    assert models.reward_scores(merged, SEQUENCES, pad_id=0) == pytest.approx(expected, abs=1e-5)
    from peft import PeftModel

    adapter = PeftModel.from_pretrained(reward_model(checkpoint, seed=5), tmp_path / "out/adapter")
    assert models.reward_scores(adapter, SEQUENCES, pad_id=0) == pytest.approx(expected, abs=1e-5)


SCORES = """
import sys, torch
from transformers import AutoModelForSequenceClassification
path, adapter, base = sys.argv[1:4]
load = AutoModelForSequenceClassification.from_pretrained
rows = [[3, 70, 71, 1, 4, 80, 1], [3, 70, 1], [3, 90, 91, 92, 93, 1]]
def show(model):
    print(*(model.eval()(torch.tensor([row])).logits.item() for row in rows))
show(load(path, num_labels=1))
from peft import PeftModel
show(PeftModel.from_pretrained(load(base, num_labels=1), adapter))
assert "align" not in sys.modules
"""


def test_a_reward_adapter_scores_alike_in_a_fresh_process(checkpoint, tmp_path):
    """R4: merged, and as an adapter beside a head drawn anew: the saved scores, to 1e-6."""
    model = perturbed_adapter(reward_model(checkpoint), "reward")
    expected = [models.reward_scores(model, [each], pad_id=0)[0] for each in SEQUENCES]  # alone
    out = tmp_path / "out"
    publish.save(model, tiny.tokenizer(), out, base=publish.Base(str(checkpoint)))
    printed = subprocess.run(
        [sys.executable, "-c", SCORES, str(out / "model"), str(out / "adapter"), str(checkpoint)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    merged, adapter = ([float(n) for n in line.split()] for line in printed.splitlines())
    assert adapter == pytest.approx(expected, rel=0, abs=1e-6)
    assert merged == pytest.approx(expected, rel=0, abs=5e-6)  # rounded once more


@pytest.mark.parametrize("lora", [False, True])
def test_a_full_disk_is_the_fault_of_the_disk_that_it_is(tmp_path, lora):
    """So that the stage ends with the exit code of what may be tried again."""
    model = tiny.llama()
    if lora:
        model = models.add_lora(model, LoraSection(), task="causal")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            publish.save(model, tiny.tokenizer(), tmp_path, base=publish.Base("base"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno in RETRYABLE


def test_cuda_where_there_is_none_is_refused():
    if torch.cuda.is_available():
        assert models.find_device("auto").type == "cuda"
    else:
        with pytest.raises(ConfigError, match="device=cuda"):
            models.find_device("cuda")
        assert models.find_device("auto") == CPU


def test_a_router_loss_left_on_in_a_config_is_not_computed_while_sampling(tmp_path):
    """TRL saves `output_router_logits: true` with a mixture of experts that it trained."""
    model = architectures.build("qwen3_moe", output_router_logits=True)
    model.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="size of tensor"):
        sampler_gap(model)
    loaded = models.load_causal_lm(tmp_path, device=torch.device("cpu"))
    with torch.inference_mode():
        assert sampler_gap(loaded) < 1e-4
