"""The arithmetic of the benchmarks: floors, ragged lengths, ratios. No timing is tested."""

import math
import sys

import pytest
import torch

from align.sampling.sampler import ModelSampler
from tests.benchmarks import floors, gold, gpu_check, table, workload
from tests.benchmarks.clock import Clock
from tests.benchmarks.jobs import Job
from tests.benchmarks.memory_plan import shared_plan
from tests.benchmarks.workload import Shape

TOY = Shape(hidden=2, layers=1, heads=1, intermediate=3, vocab=5)
SMALL = Shape(hidden=64, layers=2, intermediate=128, vocab=512, new_tokens=16)


def test_a_forward_pass_counts_as_worked_by_hand():
    # 4 maps of 2×2 and three of 2×3: 34 weights, 3 tokens, 2 operations: 204
    # attention 4 · 2 · (1 + 2 + 3) = 48; logits at two tokens 2 · 2 · 5 · 2 = 40
    assert floors.trunk_weights(TOY) == 34
    assert floors.forward_flops(TOY, 3, 2) == 204 + 48 + 40


def test_an_update_costs_three_passes_and_with_adapters_two_and_the_adapters():
    assert floors.train_flops(TOY, 3, 2, None) == 3 * 292
    # adapters of rank 1: 2 · (4 · (2 + 2) + 3 · (2 + 3)) · 3 tokens = 186
    assert floors.train_flops(TOY, 3, 2, 1) == 2 * (204 + 40) + 3 * (48 + 186)


def test_the_phases_of_an_iteration_count_as_worked_by_hand():
    # one row of 2 + 2 tokens: three are fed, two logits are read, the score reads all four
    assert floors.phase_flops(TOY, [(2, 2)], epochs=2, rank=None) == {
        "sample": 292,
        "score": 272 + 80,
        "measure": 292 + 292 + 252,
        "shape+estimate": 0,
        "update": 2 * 3 * (292 + 252),
    }
    twice = floors.phase_flops(TOY, [(2, 2)] * 2, epochs=2, rank=None)
    assert twice["update"] == 2 * 3264
    lean = floors.phase_flops(TOY, [(2, 2)], epochs=2, rank=None, own_critic=False)
    assert (lean["measure"], lean["update"]) == (292 + 292, 2 * 3 * 292)


def test_the_weights_counted_are_the_models_own():
    model = workload.causal_lm(SMALL)
    linear = [m for m in model.model.modules() if isinstance(m, torch.nn.Linear)]
    assert sum(m.weight.numel() for m in linear) == floors.trunk_weights(SMALL)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    first = Shape()
    total = floors.trunk_weights(first) + first.vocab * first.hidden
    assert total == pytest.approx(5.8e6, rel=0.01)


@pytest.mark.parametrize(("mean", "n"), [(24.0, 64), (6.0, 16), (1.5, 200)])
def test_the_stop_probability_gives_the_mean_length(mean, n):
    p = workload.stop_probability(Shape(mean_length=mean, new_tokens=n))
    lengths = [(k, p * (1 - p) ** (k - 1)) for k in range(1, n)] + [(n, (1 - p) ** (n - 1))]
    assert sum(share for _, share in lengths) == pytest.approx(1.0)
    assert sum(k * share for k, share in lengths) == pytest.approx(mean, rel=1e-9)


def test_the_model_stops_with_that_probability_and_never_pads():
    ragged = Shape(hidden=64, layers=2, intermediate=128, vocab=512, mean_length=24.0)
    for shape in (SMALL, ragged):
        ids = torch.tensor([p[:16] for p in workload.prompts(shape)])
        with torch.no_grad():
            shares = workload.causal_lm(shape)(input_ids=ids).logits.softmax(-1).mean((0, 1))
        assert shares[workload.PAD] == 0
        assert shares[workload.STOP].item() == pytest.approx(shape.stop_probability, rel=0.01)


def test_sampled_responses_have_the_mean_length():
    shape = Shape(
        hidden=64, layers=2, intermediate=128, vocab=512, prompts=400, new_tokens=16, mean_length=6
    )
    sampler = ModelSampler(
        workload.causal_lm(shape),
        pad_id=workload.PAD,
        stop_ids=[workload.STOP],
        max_new_tokens=shape.new_tokens,
        batch_size=400,
    )
    samples = sampler.sample(workload.prompts(shape), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([len(s.response) for s in samples], dtype=torch.float64)
    assert abs(lengths.mean().item() - 6) < 3 * lengths.std().item() / math.sqrt(400)


def test_prompts_cover_the_range_and_hold_no_special_token():
    prompts = workload.prompts(Shape())
    assert len(prompts) == 32
    assert {min(map(len, prompts)), max(map(len, prompts))} == {16, 64}
    assert min(min(p) for p in prompts) > workload.STOP


def iteration(*, sample, whole, response, peak=100):
    seconds = {"sample": sample, "whole": whole, "rest": whole - sample}
    wall = {key: 2 * value for key, value in seconds.items()}
    return {"cpu": seconds, "wall": wall, "peak": peak, "lengths": [(2, response)]}


def test_a_summary_takes_medians_and_the_highest_peak():
    counted = [
        iteration(sample=1.0, whole=4.0, response=2),
        iteration(sample=9.0, whole=10.0, response=2, peak=300),
        iteration(sample=2.0, whole=5.0, response=2),
    ]
    job = Job("ours", "", {}, epochs=2, rank=None)
    result = table.summarise(TOY, counted, job, rate=100.0)
    assert result["cpu"]["sample"] == 2.0
    assert result["wall"]["whole"] == 10.0
    assert result["peak"] == 300
    assert result["tokens_per_second"] == pytest.approx(2 / 10)
    assert result["floor"]["sample"] == pytest.approx(2.92)
    assert result["floor"]["whole"] == pytest.approx((292 + 352 + 836 + 3264) / 100)


def test_a_ratio_above_one_says_that_ours_is_faster():
    theirs, ours = (
        {"cpu": {"whole": cpu}, "wall": {"whole": wall}, "tokens": tokens, "peak": peak}
        for cpu, wall, tokens, peak in ((6.0, 8.0, 100, 1000), (2.0, 4.0, 50, 400))
    )
    assert table.ratios(theirs, ours) == {
        "cpu": 3.0,
        "wall": 2.0,
        "cpu_per_token": 1.5,
        "memory": 0.4,
    }


def test_the_clock_counts_an_outer_phase_once_and_leaves_the_rest():
    clock = Clock()
    clock.begin("update")
    clock.timed("sample", sum)(range(1000))
    assert not clock.cpu
    clock.end("update")
    reading = clock.reading()
    assert set(reading["cpu"]) == {"update", "whole", "rest"}
    for seconds in reading.values():
        assert seconds["whole"] == pytest.approx(seconds["update"] + seconds["rest"])


def test_time_to_equal_gold_is_the_first_point_at_the_target():
    theirs = [
        {"iteration": 0, "cpu": 0.0, "wall": 0.0, "gold": 0.4},
        {"iteration": 1, "cpu": 10.0, "wall": 20.0, "gold": 0.6},
        {"iteration": 2, "cpu": 20.0, "wall": 40.0, "gold": 0.5},
    ]
    ours = [
        {"iteration": 0, "cpu": 0.0, "wall": 0.0, "gold": 0.4},
        {"iteration": 1, "cpu": 2.0, "wall": 5.0, "gold": 0.5},
    ]
    found = gold.compare(theirs, ours)
    assert found["target"] == 0.5
    assert found["theirs"]["iteration"] == 1, "TRL is not charged for what it did not need"
    assert found["ratio"] == {"cpu": 5.0, "wall": 4.0}
    never = gold.compare(theirs, ours[:1])
    assert never["ours"] is None
    assert never["ratio"] == {"cpu": None, "wall": None}


def test_the_memory_plan_counts_as_worked_by_hand():
    # 34 + 10 weights of 4 bytes; adapters of rank 1: 31 numbers, three held, two trained
    shape = Shape(
        hidden=2, layers=1, heads=1, intermediate=3, vocab=5, prompts=2, longest=3, new_tokens=4
    )
    plan = shared_plan(shape, rank=1, micro=1)
    assert plan["base"] == 44 * 4
    assert plan["adapters"] == 3 * 31 * 4
    assert plan["Adam"] == 2 * 31 * 12
    # keys and values of 2 rows of 7 tokens; one step's 2 × 5 logits at 20 bytes
    assert plan["sampling"] == 2 * 2 * 7 * 2 * 4 + 2 * 5 * 20
    # 7 tokens keep 12 · 2 + 4 · 3 numbers; 4 × 5 logits twice at 12 bytes
    assert plan["update"] == 7 * 36 * 4 + 4 * 5 * 24
    assert plan["peak"] == 44 * 4 + 3 * 31 * 4 + 2 * 31 * 12 + plan["update"]


def test_the_invariants_of_the_first_step_name_what_broke():
    first = dict.fromkeys(gpu_check.STEP_ZERO, 0.0)
    assert gpu_check.invariants(first, "float32") == []
    assert gpu_check.invariants(first | {"ppo/start/ratio_gap_max": 0.1}, "bfloat16") == []
    broken = gpu_check.invariants(first | {"ppo/kl/token": float("nan")}, "float32")
    assert [line.split()[0] for line in broken] == ["ppo/kl/token"]


def test_without_a_gpu_the_check_says_what_it_did_not_measure(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_check"])
    assert gpu_check.main() == 0
    assert "nothing was measured" in capsys.readouterr().out
