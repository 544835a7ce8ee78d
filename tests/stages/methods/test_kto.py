"""KTO gets our token ids, every response by itself, and a response to another prompt for its KL."""

from __future__ import annotations

import pytest
import torch

from align.data import chat
from stages.methods.kto import mismatched, unpaired
from tests import tiny
from tests.stages.world import LORA, World, rows, seen_batches, weights


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    settings = {"max_steps": 10, "per_device_train_batch_size": 10, "learning_rate": 1e-2}
    world.recipe["sft"]["trainer"] = settings
    assert world.run("sft") == 0
    return world


def pairs(count):
    return [
        {"prompt_ids": [i], "chosen_ids": [i, 100], "rejected_ids": [i, 200], "length": 3}
        for i in range(count)
    ]


def test_every_answer_is_a_row_and_the_two_of_a_pair_stand_half_the_rows_apart():
    found = unpaired(pairs(50), seed=3)
    assert len(found) == 100
    for row in found:
        ids = [*row["prompt_ids"], 100 if row["label"] else 200]
        assert row["completion_ids"] == ids
    places = {}
    for place, row in enumerate(found):
        places.setdefault(row["prompt_ids"][0], []).append((place, row["label"]))
    assert len(places) == 50
    for (first, label), (second, other) in places.values():
        assert second - first == 50
        assert label != other
    good = sum(row["label"] for row in found[:50])
    assert 15 < good < 35  # both kinds in both halves
    assert found == unpaired(pairs(50), seed=3) != unpaired(pairs(50), seed=4)


def test_the_kl_is_estimated_on_the_answers_of_the_batch_moved_on_by_one():
    responses = [[1], [2], [3], [4], [5], [6], [7]]
    assert mismatched(responses, 3) == [[3], [1], [2], [6], [4], [5], [6]]
    assert mismatched(responses[:6], 3) == [[3], [1], [2], [6], [4], [5]]


def test_trl_gets_our_token_ids_and_an_answer_to_another_prompt(world, monkeypatch):
    from trl import KTOTrainer

    batches = []
    seen_batches(monkeypatch, KTOTrainer, lambda _, inputs: batches.append(dict(inputs)))
    assert world.run("kto", "trainer.max_steps=10") == 0
    tokenizer, expected = tiny.tokenizer(), {}
    for row in rows():
        prompt = [{"role": "user", "content": row["prompt"]}]
        for side in ("chosen", "rejected"):
            ids = tuple(chat.response_ids(tokenizer, prompt, row[side]))
            expected[tuple(chat.prompt_ids(tokenizer, prompt)), ids] = side == "chosen"
    seen = {}
    for batch in batches:
        found = [split(batch, i) for i in range(4)]
        other = [split(batch, i, "KL_") for i in range(4)]
        seen |= dict(zip(found, batch["label"].tolist(), strict=True))
        assert [prompt for prompt, _ in other] == [prompt for prompt, _ in found]
        assert [response for _, response in other] == [found[i - 1][1] for i in range(4)]
        assert len({prompt for prompt, _ in found}) == 4
    assert seen == expected


def split(batch, i, prefix=""):
    """Prompt and response of a row of a batch, as tuples of ids."""
    ids, mask = batch[f"{prefix}input_ids"][i], batch[f"{prefix}attention_mask"][i].bool()
    counts = batch[f"{prefix}completion_mask"][i].bool()
    return tuple(ids[mask & ~counts].tolist()), tuple(ids[counts].tolist())


@pytest.mark.parametrize("lora", [None, LORA])
def test_kto_starts_from_the_sft_policy_and_has_it_as_its_reference(world, lora):
    world.recipe["kto"]["lora"] = lora
    assert world.run("kto") == 0
    first = world.curve("kto")[0]
    assert first["step"] == 1
    assert first["kto/train/loss"] == pytest.approx(0.5, abs=1e-4)  # 1 − σ(0)
    assert first["kto/train/kl"] == pytest.approx(0, abs=1e-4)
    assert world.manifest("kto")["kind"] == ("full" if lora is None else "adapter")
    before, after = (weights(world.out(name) / "model") for name in ("sft", "kto"))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_kto_learns_which_answers_are_good(world):
    world.recipe["kto"]["trainer"] |= {"max_steps": 20, "learning_rate": 3e-3}
    assert world.run("kto") == 0
    last = world.curve("kto")[-1]
    assert last["step"] == 20
    assert last["kto/rewards/margins"] > 0.1


def test_kto_without_the_kl_reads_no_other_answers(world, monkeypatch):
    from trl import KTOTrainer

    batches = []
    seen_batches(monkeypatch, KTOTrainer, lambda _, inputs: batches.append(dict(inputs)))
    assert world.run("kto", "trainer.loss_type=apo_zero_unpaired") == 0
    assert batches and not any("KL_input_ids" in batch for batch in batches)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("per_device_train_batch_size=1", "batch size must be > 1"),
        ("train_sampling_strategy=random", "requires `train_sampling_strategy='sequential'`"),
        ("bta=0.1", "did you mean `beta`?"),
    ],
)
def test_a_setting_that_kto_cannot_take_is_one_line(world, capsys, setting, told):
    assert world.run("kto", f"trainer.{setting}") == 2
    err = capsys.readouterr().err
    assert err.startswith(("error: kto.trainer", "error: command line: kto.trainer"))
    assert told in err and err.count("\n") == 1


def test_kto_runs_again_for_its_own_settings_and_for_nothing_else(world, capsys):
    assert world.run("kto") == 0
    assert world.run("kto", "dpo.trainer.beta=0.5") == 0
    assert "kto      up to date" in capsys.readouterr().out
    assert world.run("kto", "trainer.beta=0.5") == 0
    assert "kto      runs: kto.trainer.beta" in capsys.readouterr().out
