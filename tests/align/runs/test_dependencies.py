"""What a stage was made from, seen by make: whatever changes, it asks the stage again."""

import os
import shutil
import time
from pathlib import Path

import pytest

from align.runs.runner import main
from tests.align.runs import chain
from tests.make_stand_in import lay_out, make, note


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(lay_out(tmp_path / "한글 폴더"))


def older(path, seconds):
    stamp = time.time() + seconds
    os.utime(path, (stamp, stamp))


@pytest.mark.parametrize("changed", ["r.yaml", "sft.jsonl", "base/config.json", ".venv/.ready"])
def test_make_asks_the_stage_when_something_it_was_made_from_is_newer(project, changed):
    make("sft")
    note(chain.SFT)
    assert make("sft") == []
    older(changed, 60)
    assert make("sft") == ["sft"]


@pytest.mark.parametrize("changed", ["sft.jsonl", "base/model.safetensors", "base/config.json"])
def test_make_asks_the_stage_when_something_is_another_without_being_newer(project, changed):
    """F9: a file put back with its date of long ago."""
    Path("base/model.safetensors").write_text("weights")
    make("sft")
    note(chain.SFT)
    assert make("sft") == []
    Path(changed).write_text("something else")
    older(changed, -1e6)
    assert make("sft") == ["sft"]
    note(chain.SFT)
    assert make("sft") == []


@pytest.mark.parametrize("stamp", ["", "; os.utime(file, (1, 1))"], ids=["", "with an old date"])
@pytest.mark.parametrize(
    ("file", "told"),
    [("sft.jsonl", "data.instructions.path changed"), ("r.yaml", "sft.max_length 8 → 512")],
)
def test_make_asks_the_stage_when_something_was_changed_while_it_ran(
    project, monkeypatch, capsys, file, told, stamp
):
    """The stage goes by content: it runs again, and is then up to date for both."""
    edit = f"import os; file = {file!r}; lines = open(file).readlines()[:-1]; "
    edit += f"open(file, 'w').writelines([*lines, '\\n']){stamp}"
    monkeypatch.setenv("CHAIN_FAULT", edit)
    assert main(chain.SFT, argv=["r.yaml"]) == 0
    assert make("sft") == ["sft"]
    monkeypatch.delenv("CHAIN_FAULT")
    capsys.readouterr()
    assert main(chain.SFT, argv=["r.yaml"]) == 0
    assert capsys.readouterr().out.startswith(f"sft      runs: {told}\n")
    assert make("sft") == []


def test_make_asks_the_stage_when_a_library_is_another(project):
    make("sft")
    note(chain.SFT)
    noted = Path("runs/r/.deps/sft.json")
    noted.write_text(noted.read_text().replace('"versions.torch": "', '"versions.torch": "9'))
    assert make("sft") == ["sft"]
    noted.write_text("{")
    assert make("sft") == ["sft"]


def test_make_asks_the_stage_when_something_it_was_made_from_is_gone(project):
    make("sft")
    note(chain.SFT)
    Path("sft.jsonl").unlink()
    assert make("sft") == ["sft"]


def test_make_asks_the_stage_when_settings_or_recipe_are_others_than_last_time(project):
    make("sft")
    note(chain.SFT)
    assert make("sft", "SET=seed=1") == ["sft"]
    shutil.copy2("r.yaml", "s.yaml")
    assert make("sft", "RUN=r", recipe="s.yaml") == ["sft"]
    note(chain.SFT, "seed=0")
    assert make("sft") == ["sft"]
