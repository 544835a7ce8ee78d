"""What people get wrong: one line each, its exit code, before anything is trained.

Every case of misuse.yaml is a folder with a model, data and a recipe, and a command in it. Whoever
finds a new way to be wrong adds its line there.
"""

import json
import re
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
import yaml

from align.runs.command import exit_code_of
from stages import pipeline, rlhf, sft
from stages.command import main as align
from tests.stages.whole_chain import lay_out

REMEDY = re.compile(
    r"; \w|: choose |: name |: expected |, as in |did you mean|should be|is not one of|run name is"
)
"""What to do or what was expected, in the words of this project and of the libraries it asks."""
CASES = yaml.safe_load(Path(__file__).with_name("misuse.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("처음")
    lay_out(folder)
    return folder


@pytest.fixture
def folder(laid_out, tmp_path, monkeypatch):
    """A copy with a space and Hangul in its name, in which the command runs."""
    folder = tmp_path / "남의 실수"
    shutil.copytree(laid_out, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def refused(folder, monkeypatch, capfd):
    """Act in the folder; return (exit code, lines on stderr), where nothing was left or trained."""
    started = []

    def in_child(_, action, __):
        """The first is the preflight, in this process; a stage would be the next."""
        started.append(action)
        assert len(started) == 1, f"a stage was started: {capfd.readouterr()}"
        return exit_code_of(action)

    monkeypatch.setattr(pipeline, "in_child", in_child)

    def refused(action):
        before = {*folder.rglob("*"), folder / "runs"}
        code = action()
        assert {*folder.rglob("*")} <= before
        return code, capfd.readouterr().err.splitlines()

    return refused


def change(files=(), rows=(), remove=(), replace=None, config=None):
    """Do to the folder what a case says."""
    for name, content in dict(files).items():
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    for name, its in dict(rows).items():
        Path(name).write_text("".join(f"{json.dumps(row)}\n" for row in its))
    for name in remove:
        Path(name).unlink()
    if replace is not None:
        text = Path("r.yaml").read_text()
        assert replace[0] in text
        Path("r.yaml").write_text(text.replace(*replace, 1))
    if config is not None:
        path = Path("base/config.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | config))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_is_told_in_one_line_before_anything_is_trained_and_leaves_nothing(refused, case):
    case = dict(case)
    call, code, told = case.pop("call", "r.yaml").split(), case.pop("code"), case.pop("told")
    change(**case)
    got, lines = refused(lambda: pipeline.main(call))
    assert (got, len(lines)) == (code, 1), lines
    assert lines[0].startswith(f"error: {told}"), lines
    assert REMEDY.search(lines[0]), lines


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_where_there_is_none_is_told_before_anything_is_trained(refused):
    code, lines = refused(lambda: pipeline.main(["r.yaml", "model.device=cuda"]))
    assert (code, len(lines)) == (2, 1)
    assert "torch finds no CUDA device; use model.device=auto" in lines[0]


def test_a_disk_without_room_for_the_models_is_told_before_anything_is_trained(
    refused, monkeypatch
):
    """The one thing that is not real: a disk with 100 kB left."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10**5))
    code, lines = refused(lambda: pipeline.main(["r.yaml"]))
    assert (code, len(lines)) == (75, 1)
    assert "the models of this run take about" in lines[0] and "runs_dir=FOLDER" in lines[0]


@pytest.mark.parametrize(
    "action, code, told",
    [
        (lambda: rlhf.main(*rlhf.STAGES, argv=["r.yaml"]), 2, "method=: choose one of dpo"),
        (
            lambda: rlhf.main(*rlhf.STAGES, argv=["r.yaml", "method=pop"]),
            2,
            "method=pop: choose one of dpo",
        ),
        (
            lambda: rlhf.main(*rlhf.STAGES, argv=["r.yaml", "method=ppo"]),
            2,
            "runs/r/sft: no sft artifact here; run `make sft` first",
        ),
        (
            lambda: sft.main(sft.STAGE, argv=["r.yaml", "trainer.learning_rat=1"]),
            2,
            "command line: sft.trainer.learning_rat: SFTConfig has no such field; did you mean",
        ),
        (lambda: align(["show", "nope"]), 2, "runs/nope: no such run; "),
        (lambda: align(["settings", "pop"]), 2, "pop: no such setting; did you mean `ppo`?"),
        (lambda: align(["new", "a/b", "--yes"]), 2, "NAME=a/b: names the recipe"),
    ],
)
def test_stages_and_commands_out_of_order_are_told_in_one_line(refused, action, code, told):
    got, lines = refused(action)
    assert (got, len(lines)) == (code, 1), lines
    assert lines[0].startswith(f"error: {told}"), lines
