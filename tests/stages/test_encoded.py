"""Rows are encoded once: a stage that is taken up again reads the very same integers back."""

from __future__ import annotations

import json
import os
import signal
from types import SimpleNamespace

import pytest

from align.runs.checkpoints import Checkpoints
from stages.support.encoded import encode_once
from tests.align.runs.faulty_writes import FaultyWrites
from tests.stages.test_resume_trl import run, stopped
from tests.stages.world import World, rows

ROWS = [["ab", 2], ["", 1], ["abc", 0], ["안녕", 3]]
ENCODED = [
    {"input_ids": [97, 98], "labels": [-100, -100]},
    {"input_ids": [97, 98], "labels": [-100, -100]},
    {"input_ids": [], "labels": []},
    {"input_ids": [50504, 45397], "labels": [-100, -100]},
    {"input_ids": [50504, 45397], "labels": [-100, -100]},
    {"input_ids": [50504, 45397], "labels": [-100, -100]},
]
"""Of an encoder of letters that repeats each row as often as it says."""
INPUTS = {
    "seed": 0,
    "sft.max_length": 512,
    "sft.trainer.learning_rate": 1e-4,
    "model.path": "a",
    "model.chat_template": None,
    "parents.sft": "b",
    "parents.sft.content": "c",
    "data.instructions.path": "d",
    "versions.tokenizers": "0.22",
    "align/data/chat.py": "e",
    "stages/support/encoded.py": "f",
}


class Encoder:
    def __init__(self, tmp_path):
        self.folder, self.calls = tmp_path, 0

    def encode(self, text, times):
        self.calls += 1
        return [{"input_ids": [*map(ord, text)], "labels": [-100] * len(text)}] * times

    def __call__(self, rows=ROWS, inputs=INPUTS, *, kept=True):
        checkpoints = Checkpoints(self.folder, "sft", inputs) if kept else None
        context = SimpleNamespace(checkpoints=checkpoints)
        return encode_once(context, "instructions", rows, self.encode)


@pytest.fixture
def encoder(tmp_path):
    return Encoder(tmp_path)


def test_rows_are_the_same_without_a_place_to_keep_them_when_kept_and_when_read_back(
    encoder, capsys
):
    made = [encoder(kept=False), encoder(), encoder(), encoder()]
    assert made == [ENCODED] * 4
    assert [list(row) for its in made for row in its] == [["input_ids", "labels"]] * 24
    assert {type(value) for row in made[-1] for value in row["input_ids"]} == {int}
    assert encoder.calls == 2 * len(ROWS)
    assert capsys.readouterr().out == "sft      encoded instructions: kept from before\n" * 2


@pytest.mark.parametrize(
    "key", [key for key in INPUTS if key.startswith(("m", "p", "v", "a", "st"))]
)
def test_tokenizer_template_code_and_library_decide(encoder, key):
    encoder()
    assert encoder(inputs=INPUTS | {key: "other"}) == ENCODED
    assert encoder.calls == 2 * len(ROWS)


@pytest.mark.parametrize(
    "changed",
    [ROWS[::-1], ROWS[:-1], [*ROWS, ["x", 1]], [["ab", 1], *ROWS[1:]], [["aB", 2], *ROWS[1:]]],
    ids=["order", "fewer", "more", "a number", "a letter"],
)
def test_every_row_and_its_place_decide(encoder, changed):
    encoder()
    assert encoder(changed) == encoder(changed, kept=False) != ENCODED


@pytest.mark.parametrize("key", ["seed", "sft.max_length", "sft.trainer.learning_rate"])
def test_settings_of_the_training_do_not(encoder, key):
    encoder()
    assert encoder(inputs=INPUTS | {key: 1}) == ENCODED
    assert encoder.calls == len(ROWS)


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "manifest.json"])
def test_what_is_damaged_is_put_aside_in_a_line_and_encoded_again(encoder, tmp_path, capsys, name):
    encoder()
    file = tmp_path / ".checkpoints" / "sft" / "sft-encoded-instructions" / name
    file.write_bytes(file.read_bytes()[:-7] + b"garbage")
    assert [encoder(), encoder()] == [ENCODED, ENCODED]
    assert encoder.calls == 2 * len(ROWS)
    told, kept = capsys.readouterr().out.splitlines()
    assert told.endswith(f"moved to {tmp_path}/quarantine/sft-encoded-instructions-1")
    assert kept == "sft      encoded instructions: kept from before"


def test_killed_at_any_call_of_a_write_it_leaves_all_or_nothing(encoder, tmp_path):
    with FaultyWrites(tmp_path).injected() as whole:
        encoder()
    again = []
    for at in range(1, len(whole.calls) + 1):
        killed = Encoder(tmp_path / str(at))
        killed.folder.mkdir()
        if not (child := os.fork()):
            with FaultyWrites(killed.folder, at, lambda: os.kill(os.getpid(), 9)).injected():
                killed()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        assert killed() == ENCODED
        again.append(killed.calls)
        left = {path.name for path in (killed.folder / ".checkpoints" / "sft").iterdir()}
        assert left == {"attempt.json", "sft-encoded-instructions"}
        assert not (killed.folder / "quarantine").exists()
    assert again[0] == len(ROWS) and again[-1] == 0 and again == sorted(again, reverse=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("encoded"))


def reworded(world):
    """One answer is another."""
    changed = rows()
    changed[7]["chosen"] = "It is so."
    world.write("pairs.jsonl", changed)


def retokenised(world):
    """One merge is missing."""
    file = world.base / "tokenizer.json"
    state = json.loads(file.read_text("utf-8"))
    state["model"]["merges"].pop()
    file.write_text(json.dumps(state), "utf-8")


@pytest.mark.parametrize(
    ("change", "items", "kept"),
    [
        (None, ["max_length=100", "trainer.learning_rate=1e-4", "seed=1"], True),
        (None, ["model.chat_template=chatml"], False),
        (reworded, [], False),
        (retokenised, [], False),
    ],
    ids=["settings", "template", "a row", "tokenizer"],
)
def test_a_stopped_stage_keeps_what_its_next_start_would_encode_alike(
    world, monkeypatch, capsys, change, items, kept
):
    name = f"stopped-{change.__name__ if change else len(items)}"
    assert stopped(monkeypatch, world, "sft", name, 1) == 143
    if change:
        change(world)
    assert run(world, "sft", name, *items) == 0
    assert ("sft      encoded instructions: kept from before\n" in capsys.readouterr().out) == kept
    assert not (world.folder / "runs" / name / ".checkpoints").exists()
