"""The commit protocol, call by call, as a process that dies in the middle leaves it."""

from __future__ import annotations

import os

import pytest

from align.runs.artifacts import publish, read_artifact, recover, workspace
from align.runs.manifest import Manifest
from tests.align.runs.faulty_writes import FaultyWrites


class Died(BaseException):
    """As by SIGKILL: nothing after it is done."""


def make(run, text):
    manifest = Manifest(stage="sft", fingerprint=text, inputs={}, config={}, seed=0)
    with workspace(run / "sft") as work:
        (work / "model").mkdir()
        (work / "model" / "w").write_text(text)
        with FaultyWrites(run).injected() as calls:
            publish(work, run / "sft", manifest)
    return calls.calls


def test_files_are_on_the_disk_before_the_manifest_and_all_of_it_before_the_rename(tmp_path):
    make(tmp_path, "old")
    assert make(tmp_path, "new") == [
        "fsync w",
        "open manifest.json",
        "write manifest.json",
        "fsync manifest.json",
        "fsync model",
        "fsync .tmp",
        "chmod .tmp",
        "rename sft",
        "rename .tmp",
        f"fsync {tmp_path.name}",
    ]
    assert read_artifact(tmp_path / "sft").manifest.fingerprint == "new"


@pytest.mark.parametrize("at", range(1, 11))
def test_dead_at_any_call_the_old_artifact_or_the_new_one_is_whole(tmp_path, monkeypatch, at):
    make(tmp_path, "old")

    def die():
        for name in ("rename", "rmdir", "unlink"):  # what would still tidy up does nothing
            monkeypatch.setattr(os, name, lambda *_, **__: None)
        raise Died

    manifest = Manifest(stage="sft", fingerprint="new", inputs={}, config={}, seed=0)
    with pytest.raises(Died), workspace(tmp_path / "sft") as work:
        (work / "w").write_text("new")
        (work / "v").write_text("new")
        with FaultyWrites(tmp_path, at, die).injected():
            publish(work, tmp_path / "sft", manifest)
    monkeypatch.undo()
    recover(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["sft"]
    assert read_artifact(tmp_path / "sft").manifest.fingerprint == ("old" if at < 10 else "new")
