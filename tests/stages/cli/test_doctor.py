"""`align doctor` tells what a run would stumble over, a line each, without loading torch."""

import json
from pathlib import Path

import pytest

from stages.cli import doctor as module
from stages.command import main

PAIR = {"prompt": "Hi", "chosen": "Hello.", "rejected": "Go."}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model, forty pairs and a recipe that has all it needs."""
    monkeypatch.chdir(tmp_path)
    Path("base").mkdir()
    Path("base/config.json").write_text("{}", encoding="utf-8")
    Path("base/model.safetensors").write_bytes(bytes(3 * 2**20))
    rows = [json.dumps(PAIR | {"prompt": f"Hi {n}"}) for n in range(40)]
    Path("쌍.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path


def recipe(**changes):
    content = {
        "model": {"path": "base", "threads": 1},
        "data": {
            "preferences": {"path": "쌍.jsonl", "holdout": 0.2},
            "preferences_heldout": {"part": "heldout"},
            "instructions": {},
            "prompts": {},
            "evaluation": {"part": "heldout"},
        },
    }
    for key, value in changes.items():
        content[key] = {**content[key], **value}
    Path("r.yaml").write_text(json.dumps(content), encoding="utf-8")


def faults(capsys):
    lines = capsys.readouterr().out.splitlines()
    return [line.removeprefix("fault ") for line in lines if line.startswith("fault")]


def test_a_sound_recipe_is_told_with_its_rows_and_the_stages_that_read_them(folder, capsys):
    recipe()
    assert main(["doctor", "r.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "ok    model.path=base: weights of 3.0 MiB" in lines
    assert "ok    data.instructions: 30 rows of 쌍.jsonl for sft, reward" in lines
    assert "ok    data.evaluation: 10 rows of 쌍.jsonl for evaluate" in lines
    assert not [line for line in lines if line.startswith("fault")]


@pytest.mark.parametrize(
    "changes, items, code, told",
    [
        ({"data": {"evaluation": None}}, [], 2, "data.evaluation: missing, needed by evaluate; "),
        ({"data": {"prompts": None}}, [], 2, "data.prompts: missing, needed by ppo; add it"),
        ({"data": {"prompts": "no.csv"}}, [], 3, "no.csv: no such file; give a file"),
        ({"model": {"path": "none"}}, [], 2, "model.path=none: no model there; give a folder"),
        ({"model": {"path": "."}}, [], 2, "model.path=.: no model there; give a folder"),
        ({}, ["ppo.gama=1"], 2, "command line: ppo.gama: unknown key; did you mean `gamma`?"),
        ({}, ["data.instructions.holdout=2"], 2, "command line: data.instructions.holdout: "),
    ],
)
def test_what_a_recipe_lacks_is_one_line_with_the_exit_code_of_a_run(
    folder, capsys, changes, items, code, told
):
    recipe(**changes)
    assert main(["doctor", "r.yaml", *items]) == code
    (line,) = faults(capsys)
    assert line.startswith(told)


def test_it_takes_where_a_run_would_go_as_a_run_does(folder):
    recipe()
    assert main(["doctor", "r.yaml", "run=other", "runs_dir=elsewhere", "force=true"]) == 0
    assert not Path("elsewhere").exists()


def test_a_gpu_that_is_asked_for_and_not_there_is_a_fault(folder, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(folder))  # where no nvidia-smi is
    recipe()
    assert main(["doctor", "r.yaml", "model.device=cuda"]) == 2
    assert faults(capsys) == ["model.device=cuda: no GPU is found; give auto or cpu"]


def test_the_gpu_is_the_one_that_the_driver_names(folder, capsys, monkeypatch):
    tool = folder / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'Some GPU, 141000 MiB'\n", encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    assert main(["doctor"]) == 0
    assert "ok    device: Some GPU, 141000 MiB" in capsys.readouterr().out


def test_a_version_other_than_the_pin_is_a_note_and_a_missing_library_a_fault(
    folder, capsys, monkeypatch
):
    pins = folder / "constraints.txt"
    pins.write_text("# pins\ntyper==0.0.1\nno-such-thing==1\npytest==0.1\n", encoding="utf-8")
    monkeypatch.setattr(module, "PINS", pins)
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    notes = [line for line in lines if "tested with" in line]
    assert [line.split()[1] for line in notes] == ["typer", "pytest"]
    monkeypatch.setattr(module, "LIBRARIES", ("no-such-thing",))
    assert main(["doctor"]) == 2
    assert faults(capsys) == ["no-such-thing is not installed; run `make setup`"]
