"""What the pipeline refuses: in one line, at once, and nothing is published."""

import os
import re

import pytest

from align.runs.manifest import dump_manifest, load_manifest
from align.runs.run_dir import lock
from tests.stages.whole_chain import HEAVY, call, lay_out, write_rows

NEW = "run=new"
BAD = [
    (
        "a missing data file",
        ["data.prompts.path=no.jsonl"],
        3,
        r"data\.prompts\.path=no\.jsonl: no",
    ),
    (
        "a typo in a setting",
        ["ppo.kl_ceof=1"],
        2,
        r"command line: ppo\.kl_ceof: unknown key; did you",
    ),
    ("a row without an answer", ["data.instructions.path=bad.jsonl"], 3, r"bad\.jsonl:2: response"),
    ("an empty file", ["data.preferences.path=empty.jsonl"], 3, r"empty\.jsonl: no rows"),
    ("an empty model folder", ["model.path=nothing"], 2, r"model\.path=nothing: no such folder"),
    ("a bad run name", ["run=a/b"], 2, r"run=a/b: a run name"),
]


@pytest.mark.parametrize(("items", "code", "told"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_input_is_one_line_at_once_and_publishes_nothing(finished, items, code, told):
    folder, _ = finished
    (folder / "bad.jsonl").write_text('{"prompt": "a", "response": "b"}\n{"prompt": "a"}\n')
    (folder / "empty.jsonl").write_text("")
    got, _, errors, imported = call(folder, "pipeline", NEW, *items)
    assert got == code
    assert re.match(rf"error: {told}", errors), errors
    assert errors.count("\n") == 1
    assert not imported & HEAVY
    assert not list(folder.glob("runs/new/*/manifest.json"))


def test_a_prompt_that_the_template_refuses_is_told_before_sft(tmp_path):
    """As a system message to Gemma: prompts are read by PPO, after an hour of SFT and reward."""
    lay_out(tmp_path)
    template = tmp_path / "base" / "chat_template.jinja"
    refusal = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    template.write_text(refusal + template.read_text())
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": "Hello"}, {"prompt": system}])
    code, _, errors, _ = call(tmp_path, "pipeline")
    assert code == 3
    assert errors.strip().startswith("error: prompts.jsonl:2: the chat template of 'base' refuses")
    assert "no system" in errors and len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "runs" / "r" / "sft").exists()


def test_a_model_that_a_later_stage_could_not_use_is_told_before_sft(tmp_path):
    lay_out(tmp_path)
    code, _, errors, _ = call(tmp_path, "pipeline", "dpo.max_length=300")
    assert code == 2
    told = "error: dpo.max_length=300 is more than the 256 positions of 'base'; set dpo.max_length"
    assert errors.strip() == f"{told}=256"
    assert not (tmp_path / "runs" / "r" / "sft").exists()


def test_what_a_stage_could_not_use_is_told_before_the_first_also_where_sft_is_there(finished):
    folder, _ = finished
    given = ["parents.sft=runs/r/sft", "evaluate.max_new_tokens=250"]
    code, _, errors, _ = call(folder, "pipeline", NEW, *given)
    assert code == 2
    assert errors.startswith("error: evaluate.max_new_tokens=250 leaves 6 of 256 tokens for the pr")
    assert errors.count("\n") == 1
    assert not (folder / "runs" / "new").exists()


def test_two_tokenizers_that_differ_are_refused(finished):
    folder, _ = finished
    path = folder / "runs" / "r" / "reward" / "manifest.json"
    text, manifest = path.read_text(), load_manifest(path.parent)
    other = manifest.model_copy(update={"tokenizer_hash": "other"})
    path.write_text(dump_manifest(other))
    code, _, errors, imported = call(folder, "rlhf", "method=ppo")
    path.write_text(text)
    assert code == 2
    assert errors.startswith("error: tokenizer of reward (runs/r/reward) differs from that of sft")
    assert errors.count("\n") == 1
    assert not imported & HEAVY


def test_a_run_directory_in_use_is_refused(finished):
    folder, _ = finished
    with lock(folder / "runs" / "r"):
        code, _, errors, _ = call(folder, "sft")
    assert code == 2
    assert errors == (
        f"error: runs/r: in use by process {os.getpid()}; wait for it, or give another run=NAME\n"
    )
