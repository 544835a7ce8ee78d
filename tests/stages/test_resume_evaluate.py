"""An evaluation that is broken off keeps the answers and scores it has, and asks for no more."""

from __future__ import annotations

import pytest

from align.evaluation import evaluation_set
from tests.stages.resuming import stopped_in
from tests.stages.world import World, rows

CHECKS = [{"kind": "contains_any", "values": ["a", "e"], "core": True}]
ASKED = 2 * ["base"] + 2 * ["sft"] + ["best_of_n"]
"""Calls of the sampler: sampled and greedy answers of each policy, and the pool."""
KEPT = ["answers of base", "answers of sft", "answers of best_of_n"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A world in which the evaluation has run once, undisturbed, as run `whole`."""
    world = World(tmp_path_factory.mktemp("resume"))
    prompts = [{"prompt": row["prompt"], "checks": CHECKS} for row in rows(6)]
    world.recipe["data"]["evaluation"] = {"path": world.write("evaluation.jsonl", prompts)}
    world.recipe["evaluate"] = {
        "policies": ["base", "sft", "best_of_n"],
        "best_of_n": 2,
        "samples_per_prompt": 2,
        "max_new_tokens": 6,
        "bootstrap": 50,
    }
    assert world.run("sft") == world.run("reward") == 0
    assert run(world, "whole") == 0
    return world


def run(world, name, *items):
    return world.run("evaluate", f"run={name}", *world.parents(), *items)


def stopped(monkeypatch, world, name, module, function, call, *items):
    """Run it, and stop it by a signal in the n-th call of a function."""
    with stopped_in(monkeypatch, module, function, call) as calls:
        return run(world, name, *items), len(calls)


def files(world, name):
    out = world.out("evaluate", name)
    summary = (out / "summary.json").read_text("utf-8").replace(f'"{name}"', '"NAME"')
    return summary, (out / "samples.jsonl").read_text("utf-8")


@pytest.mark.parametrize(("call", "kept"), [(1, 0), (3, 1), (5, 2)])
def test_finished_answers_are_kept_and_only_the_others_are_asked_for(
    world, monkeypatch, capsys, call, kept
):
    name = f"at-{call}"
    assert stopped(monkeypatch, world, name, evaluation_set, "answer", call) == (143, call)
    capsys.readouterr()
    code, asked = stopped(monkeypatch, world, name, evaluation_set, "answer", None)
    assert (code, asked) == (0, len(ASKED) - 2 * kept)
    printed = capsys.readouterr().out
    assert [part for part in KEPT if f"evaluate {part}: kept from before" in printed] == KEPT[:kept]
    assert files(world, name) == files(world, "whole")
    assert not (world.folder / "runs" / name / ".checkpoints").exists()


def test_scores_are_kept_too(world, monkeypatch, capsys):
    """Stopped when all is scored and the reward card is drawn."""
    from align.evaluation import reward_card

    assert stopped(monkeypatch, world, "scored", reward_card, "reward_card", 1)[0] == 143
    monkeypatch.setattr(evaluation_set.EvaluationSet, "rewards", None)
    assert run(world, "scored") == 0
    assert "evaluate scores of held-out pairs: kept from before" in capsys.readouterr().out
    assert files(world, "scored") == files(world, "whole")


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ("bootstrap=60", 2),
        ("policies=[sft,base]", 2),
        ("max_new_tokens=5", 0),
        ("seed=1", 0),
    ],
)
def test_answers_are_kept_as_long_as_nothing_that_decides_them_changes(
    world, monkeypatch, capsys, changed, kept
):
    name = changed.partition("=")[0]
    assert stopped(monkeypatch, world, name, evaluation_set, "answer", 5)[0] == 143
    capsys.readouterr()
    assert run(world, name, changed) == 0
    assert capsys.readouterr().out.count(": kept from before") == kept


def test_a_damaged_part_is_made_anew(world, monkeypatch, capsys):
    assert stopped(monkeypatch, world, "damaged", evaluation_set, "answer", 5)[0] == 143
    parts = world.folder / "runs" / "damaged" / ".checkpoints" / "evaluate"
    file = parts / "evaluate-answers-of-sft" / "state.json"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"true", b"null", 1) if b"true" in content else content + b" ")
    capsys.readouterr()
    assert run(world, "damaged") == 0
    printed = capsys.readouterr().out
    assert "quarantine/evaluate-answers-of-sft-1" in printed
    assert "answers of base: kept" in printed
    assert "answers of sft: kept" not in printed
    assert files(world, "damaged") == files(world, "whole")


def test_a_changed_policy_answers_anew(world, monkeypatch, capsys):
    """Another SFT policy is another reference too: no answer is kept."""
    assert stopped(monkeypatch, world, "other", evaluation_set, "answer", 5)[0] == 143
    assert world.run("sft", "run=more", "trainer.max_steps=3") == 0
    assert world.run("reward", "run=more") == 0
    capsys.readouterr()
    assert world.run("evaluate", "run=other", *world.parents("more")) == 0
    assert "kept from before" not in capsys.readouterr().out
