"""A chain of made-up stages in a folder of its own."""

import pytest

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
