"""A chain of made-up stages in a folder of its own."""

import json
from pathlib import Path

import pytest

from align.runs import hashing
from align.runs.runner import main
from tests.align.runs import chain


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Call a stage of the chain in a folder of its own; return (exit code, stdout, stderr)."""
    chain.lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)

    def call(stage, *items, recipe="r.yaml"):
        code = main(*(stage if isinstance(stage, tuple) else (stage,)), argv=[recipe, *items])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def known(monkeypatch):
    """Remember hashes at once; return what puts one into the run's cache as if just computed."""
    monkeypatch.setattr(hashing, "SETTLED_SECONDS", -1.0)

    def remember(path, digest):
        place = Path("runs/r/.hashes.json")
        facts = json.loads(place.read_text())["facts"]
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        facts[f"sha256 {path.resolve()}"] = [stamp, digest]
        place.write_text(json.dumps({"facts": facts, "checksum": hashing.value_hash(facts)}))

    return remember
