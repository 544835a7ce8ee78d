import contextlib
import errno
import os
import resource
import signal
from pathlib import Path

import pytest
import torch

from align.messages.errors import RetryableError
from align.runs.checkpoints import Checkpoints, Saved, forget
from align.runs.signals import Stop, Stopped
from tests.align.runs.faulty_reads import FaultyReads

INPUTS = {"seed": 0, "ppo.kl_coef": 0.05, "model.threads": 2}


def state(step):
    return Saved({"weights": torch.full((1000,), float(step))}, {"step": step, "rate": 0.1 + step})


@pytest.fixture
def made(tmp_path, capsys):
    """Make checkpoints of a stage in one and the same run directory, as often as asked."""
    return lambda inputs=INPUTS, **settings: Checkpoints(tmp_path, "ppo", inputs, **settings)


def folders(tmp_path):
    return sorted(path.name for path in (tmp_path / ".checkpoints" / "ppo").glob("*step*"))


def test_the_newest_is_read_back_to_the_bit_and_two_are_kept(made, tmp_path, capsys):
    for step in (8, 9, 10, 11):
        made().save(step, state(step))
    assert folders(tmp_path) == ["ppo-step-10", "ppo-step-11"]
    saved = made().latest(28)
    assert torch.equal(saved.tensors["weights"], state(11).tensors["weights"])
    assert saved.values == state(11).values
    assert capsys.readouterr().out == "ppo      resumes at 11/28 from a checkpoint\n"


def test_without_a_checkpoint_there_is_nothing_to_say(made, capsys):
    assert made().latest(28) is None
    assert capsys.readouterr().out == ""


def test_what_is_due_is_saved(made, tmp_path):
    checkpoints = made(every=3)
    seen = []
    for step in range(1, 8):
        checkpoints.reached(step, 7, lambda step=step: state(step))
        seen.append(folders(tmp_path))
    assert seen[:3] == [[], [], ["ppo-step-3"]]
    assert seen[-1] == ["ppo-step-6", "ppo-step-7"]  # the last step, whether or not it is due


def test_minutes_count_from_the_last_checkpoint(made, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("align.runs.checkpoints.time.monotonic", lambda: now[0])
    checkpoints, seen = made(every=None, minutes=2.0), []
    for step, seconds in enumerate((119, 120, 239, 241), 1):
        now[0] = float(seconds)
        checkpoints.reached(step, 28, lambda step=step: state(step))
        seen.append(folders(tmp_path))
    assert seen == [[], ["ppo-step-2"], ["ppo-step-2"], ["ppo-step-2", "ppo-step-4"]]


def test_a_part_is_made_once_as_long_as_what_decides_it_stays(made, tmp_path, capsys):
    """Other inputs may change; of a part that is made anew the old one goes."""
    numbers = iter(range(10))

    def part(inputs):
        return made(inputs).part(
            "answers of sft", lambda: Saved({}, next(numbers)), decides=lambda key: key != "seed"
        )

    assert [part(INPUTS).values for _ in "ab"] == [0, 0]
    assert part(INPUTS | {"seed": 1}).values == 0
    assert capsys.readouterr().out == "ppo      answers of sft: kept from before\n" * 2
    other = INPUTS | {"ppo.kl_coef": 0.1}
    assert [part(inputs).values for inputs in (other, other, INPUTS)] == [1, 1, 2]
    names = {path.name for path in (tmp_path / ".checkpoints" / "ppo").iterdir()}
    assert names == {"attempt.json", "ppo-answers-of-sft"}


def test_a_damaged_part_is_put_aside_and_made_anew(made, tmp_path, capsys):
    made().part("answers", lambda: Saved({}, [1.5]))
    flip(tmp_path / ".checkpoints" / "ppo" / "ppo-answers" / "state.json")
    assert made().part("answers", lambda: Saved({}, [2.5])).values == [2.5]
    assert capsys.readouterr().out.endswith(f"moved to {tmp_path}/quarantine/ppo-answers-1\n")
    assert made().part("answers", lambda: Saved({}, [3.5])).values == [2.5]


AVX2, AVX512, GPU = "cpu, AVX2, AMD", "cpu, AVX512, Intel", "cuda (H100)"


@pytest.mark.parametrize(
    ("computers", "told"),
    [
        ([AVX2, AVX2], ""),
        ([AVX2, AVX512], f"made on {AVX2}, goes on on {AVX512}: the last bits may differ"),
        ([GPU, GPU], "on a GPU the last bits may differ from those of one start"),
    ],
)
def test_where_the_last_bits_may_differ_it_says_so_and_records_both(made, capsys, computers, told):
    for number, name in enumerate(computers, 1):
        checkpoints = made(computer=lambda name=name: name)
        checkpoints.latest(28)
        checkpoints.save(number, state(number))
    lines = capsys.readouterr().out.splitlines()
    assert [line.removeprefix("ppo      ") for line in lines[:-1]] == ([told] if told else [])
    assert checkpoints.computers == list(dict.fromkeys(computers))
    third = made(computer=lambda: GPU)
    third.latest(28)
    assert third.computers == list(dict.fromkeys([*computers, GPU]))


def test_a_part_is_made_anew_from_anything_else(made):
    parts = [
        made().part("ids", lambda n=n: Saved({}, n), made_from={"rows": rows}).values
        for n, rows in enumerate("aab")
    ]
    assert parts == [0, 0, 2]


def test_a_part_that_is_the_same_on_every_computer_says_nothing_of_bits(made, capsys):
    for name in (AVX2, AVX512):
        checkpoints = made(computer=lambda name=name: name)
        assert checkpoints.part("ids", lambda: Saved({}, [7]), exact=True).values == [7]
    assert capsys.readouterr().out == "ppo      ids: kept from before\n"
    assert checkpoints.computers == [AVX512]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "manifest.json", "curve"])
@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
def test_a_damaged_one_is_put_aside_with_its_reason_and_the_one_before_is_used(
    made, tmp_path, capsys, name, damage
):
    curve = tmp_path / "curve"
    curve.write_text("1\n")
    for step in (5, 10):
        made(curve=curve).save(step, state(step))
    damage(tmp_path / ".checkpoints" / "ppo" / "ppo-step-10" / name)
    assert made(curve=curve).latest(28).values == state(5).values
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"ppo      {tmp_path}/.checkpoints/ppo/ppo-step-10/{name}: ")
    assert first.endswith(f"; moved to {tmp_path}/quarantine/ppo-step-10-1")
    assert second == "ppo      resumes at 5/28 from a checkpoint"
    assert "ppo-step-10-1: " in (tmp_path / "quarantine" / "reasons.txt").read_text()
    assert folders(tmp_path) == ["ppo-step-5"]


def test_a_checkpoint_that_cannot_be_read_is_not_put_aside(made, tmp_path):
    for step in (5, 10):
        made().save(step, state(step))
    place, checkpoints = tmp_path / ".checkpoints" / "ppo", made()
    with FaultyReads(place).injected() as all_of_them:
        assert checkpoints.latest(28).values == state(10).values
    for number in range(1, len(all_of_them.calls) + 1):
        with (
            contextlib.suppress(RetryableError, OSError),
            FaultyReads(place, number, errno.EIO).injected(),
        ):
            assert checkpoints.latest(28).values == state(10).values
    assert len(all_of_them.calls) > 10
    assert folders(tmp_path) == ["ppo-step-10", "ppo-step-5"]


def test_with_all_of_them_damaged_the_stage_starts_anew(made, tmp_path):
    for step in (5, 10):
        made().save(step, state(step))
        truncate(tmp_path / ".checkpoints" / "ppo" / f"ppo-step-{step}" / "state.json")
    assert made().latest(28) is None
    assert len(list((tmp_path / "quarantine").glob("ppo-step-*"))) == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"ppo.kl_coef": 0.1}, "ppo.kl_coef 0.05 → 0.1"),
        ({"model.threads": 1}, "model.threads 2 → 1"),
        ({"align/ppo/train.py": "a" * 64}, "align/ppo/train.py is new"),
    ],
)
def test_a_checkpoint_of_another_recipe_is_removed_with_the_reason(
    made, tmp_path, capsys, change, told
):
    for step in (5, 10):
        made().save(step, state(step))
    assert made(INPUTS | change).latest(28) is None
    assert capsys.readouterr().out == (
        f"ppo      starts anew, its checkpoint at 10 is removed: {told}\n"
    )
    assert folders(tmp_path) == []


def test_the_curve_is_put_back_as_it_was_at_the_checkpoint(made, tmp_path):
    curve = tmp_path / "metrics.jsonl"
    curve.write_text("1\n2\n")
    made(curve=curve).save(2, state(2))
    with curve.open("a") as writing:  # by a tracker that already has the new attempt's file
        curve.write_text("")
        made(curve=curve).latest(4)
        writing.write("3\n")
    assert curve.read_text() == "1\n2\n3\n"


@contextlib.contextmanager
def full_disk(size):
    """No file may grow beyond `size` bytes: what a write then meets is a real fault of the disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 1000])
def test_a_full_disk_is_told_and_the_earlier_checkpoint_stays_good(made, tmp_path, size):
    made().save(5, state(5))
    checkpoints = made()
    told = r"ppo-step-10: cannot be written: File too large"
    with pytest.raises(RetryableError, match=told), full_disk(size):
        checkpoints.save(10, state(10))
    assert folders(tmp_path) == ["ppo-step-5"]
    assert not list((tmp_path / ".checkpoints" / "ppo").glob(".tmp-*"))
    assert made().latest(28).values == state(5).values


def test_a_stop_signal_saves_the_step_and_ends(made, tmp_path, capsys):
    stop = Stop()
    checkpoints = made(every=100, stop=stop)
    with pytest.raises(Stopped), stop.handled(), stop.deferred():
        checkpoints.reached(1, 28, lambda: state(1))
        assert folders(tmp_path) == []
        os.kill(os.getpid(), signal.SIGTERM)
        checkpoints.reached(2, 28, lambda: state(2))
    assert folders(tmp_path) == ["ppo-step-2"]
    assert capsys.readouterr().out == (
        "ppo      saved at 2/28; the same command goes on from there\n"
    )


def test_an_attempt_keeps_its_name_until_it_is_another_one(made, tmp_path):
    names = [made().attempt, made().attempt]
    names.append(made(INPUTS | {"seed": 1}).attempt)
    forget(tmp_path, "ppo")
    names.append(made(INPUTS | {"seed": 1}).attempt)
    assert names[0] == names[1]
    assert len(set(names)) == 3
    assert all(len(name) == 8 and name.isalnum() for name in names)


@pytest.mark.parametrize("content", ['{"finger', "[]", "3", '{"fingerprint": "x"}', "\x00", ""])
def test_a_torn_name_of_an_attempt_begins_a_new_one(made, tmp_path, content):
    before = made().attempt
    (tmp_path / ".checkpoints" / "ppo" / "attempt.json").write_text(content)
    after = made().attempt
    assert after != before
    assert made().attempt == after


def test_what_a_killed_process_left_half_written_is_cleared(made, tmp_path):
    left = tmp_path / ".checkpoints" / "ppo" / ".tmp-ppo-step-5-x"
    left.mkdir(parents=True)
    (left / "state.json").write_text("{")
    assert made().latest(28) is None
    assert not left.exists()
