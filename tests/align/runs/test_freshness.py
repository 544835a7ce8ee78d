"""A stage runs again when what it was made from changed, and only then."""

import dataclasses
from pathlib import Path

import pytest

from tests.align.runs import chain

# What is changed, and which stages must then say so. `code` edits nothing here: its closure is
# tested in tests/align/runs/test_hashing.py.
CHANGES = {
    "nothing": (None, ()),
    "tracking": ("tracking.project=other", ()),
    "seed": ("seed=1", ("sft", "reward", "dpo", "ppo", "evaluate")),
    "sft": ("sft.max_length=9", ("sft", "reward", "dpo", "ppo", "evaluate")),
    "reward": ("reward.max_length=9", ("reward", "ppo", "evaluate")),
    "dpo": ("dpo.trainer.beta=0.2", ("dpo", "evaluate")),
    "ppo": ("ppo.kl_coef=0.2", ("ppo", "evaluate")),
    "evaluate": ("evaluate.bootstrap=9", ("evaluate",)),
    "threads": ("model.threads=1", ("sft", "reward", "dpo", "ppo", "evaluate")),
    "instructions": (Path("sft.jsonl"), ("sft", "reward", "dpo", "ppo", "evaluate")),
    "preferences": (Path("pairs.jsonl"), ("reward", "dpo", "ppo", "evaluate")),
    "prompts": (Path("prompts.jsonl"), ("ppo", "evaluate")),
    "base": (Path("base/config.json"), ("sft", "reward", "dpo", "ppo", "evaluate")),
    "rows": ("data.prompts.max_rows=1", ("ppo", "evaluate")),
    "bad rows": ("data.prompts.max_bad_rows=1", ()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_reruns_exactly_the_stages_that_depend_on_it(run, name):
    change, expected = CHANGES[name]
    for stage in chain.STAGES:
        run(stage)
    if isinstance(change, Path):
        change.write_text(change.read_text() + " ")
    items = [change] if isinstance(change, str) else []
    ran = []
    for stage in chain.STAGES:
        code, out, _ = run(stage, *items)
        assert code == 0
        if out != f"{stage.name:<9}up to date\n":
            ran.append(stage.name)
    assert tuple(ran) == expected


def test_what_is_written_for_a_reader_is_made_again_in_another_language(run, monkeypatch):
    report = dataclasses.replace(chain.SFT, in_words=True)
    run(report)
    monkeypatch.setenv("ALIGN_LANG", "ko")
    told = run(report)[1]
    assert told.splitlines()[0].endswith('language "en" → "ko"') and "language=" not in told
    assert run(report)[1].count("\n") == 1
    assert "language" not in run(chain.SFT, "runs_dir=other")[1]


def test_the_input_that_changed_is_named_with_both_values(run):
    run(chain.SFT)
    _, out, _ = run(chain.SFT, "max_length=9", "seed=1")
    assert out.startswith("sft      runs: seed 0 → 1, sft.max_length 8 → 9\n")
    Path("sft.jsonl").write_text("{}\n")
    _, out, _ = run(chain.SFT, "max_length=9", "seed=1")
    assert out.startswith("sft      runs: data.instructions.path changed\n")


def test_the_dependencies_that_make_reads_are_those_of_the_fingerprint(run):
    Path("my rows #1.jsonl").write_text("{}\n")
    run(chain.SFT, "data.instructions.path=my rows #1.jsonl")
    text = Path("runs/r/.deps/sft.mk").read_text()
    rule = text.split("\n\n")[0]
    assert rule.startswith(
        "runs/r/sft/manifest.json: \\\n  r.yaml \\\n  my\\ rows\\ \\#1.jsonl \\\n"
    )
    assert "tests/align/runs/chain.py" in rule
    assert "base/config.json" in rule
    assert "align/runs/tracking.py" not in rule
