"""What a disk and a person do to a run directory between two commands, and what is left of it."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from align.runs import hashing
from tests.align.runs import chain
from tests.align.runs.faulty_reads import FaultyReads
from tests.align.runs.test_runner import everything

PASSING = (errno.EIO, errno.ESTALE, errno.EMFILE, errno.EACCES)
RUN, SFT = Path("runs/r"), Path("runs/r/sft")


@pytest.mark.parametrize(("settled", "shift"), [(-1.0, 0), (-1.0, 2), (1e9, 0), (1e9, 2)])
def test_a_fault_at_any_read_of_the_run_moves_nothing_and_the_next_start_is_up_to_date(
    run, monkeypatch, settled, shift
):
    """F1: what cannot be read is not damaged. With remembered hashes, and reading all."""
    monkeypatch.setattr(hashing, "SETTLED_SECONDS", settled)
    for stage in (chain.SFT, chain.REWARD, chain.REWARD):
        run(stage)
    with FaultyReads(RUN).injected() as all_of_them:
        assert run(chain.REWARD) == (0, "reward   up to date\n", "")
    assert len(all_of_them.calls) > 30
    codes = set()
    for number in range(1, len(all_of_them.calls) + 1):
        code = PASSING[(number + shift) % len(PASSING)]
        before = {n: everything(RUN / n) for n in ("sft", "reward")}
        with FaultyReads(RUN, number, code).injected() as faults:
            got, out, err = run(chain.REWARD)
        call = faults.calls[number - 1]
        codes.add(got)
        artifact = call.split(" ")[1].startswith(("/sft", "/reward"))
        assert got in ((0, 75) if artifact else (0, 2, 75)), (call, err)
        assert err.count("\n") == (got != 0)
        assert "Traceback" not in err and "runs:" not in out
        assert not (RUN / "quarantine").exists(), call
        assert {n: everything(RUN / n) for n in ("sft", "reward")} == before
    assert {0, 75} <= codes
    assert run(chain.REWARD) == (0, "reward   up to date\n", "")


def rot(path, known):
    """Change one bit and no date, as a disk does under a cache that has seen the file."""
    digest, content = hashing.file_hash(path), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    known(path, digest)


def test_a_parent_that_rots_behind_its_date_is_put_aside_when_its_bytes_are_read(run, known):
    """F6: the same line and exit 5 every time was a dead end."""
    run(chain.SFT)
    rot(SFT / "model" / "weights", known)
    assert run(chain.SFT)[1] == "sft      up to date\n"  # by size and dates
    code, _, err = run(chain.REWARD)
    assert code == 5
    assert err == (
        "error: runs/r/sft/model/weights: altered since it was published; moved to "
        "runs/r/quarantine/sft-1, run `make sft` to make it anew\n"
    )
    assert run(chain.SFT)[1].startswith("sft      runs: first run\n")
    assert run(chain.REWARD)[0] == 0


def test_a_wrong_hash_that_is_remembered_throws_nothing_away(run, known):
    """F6: also one whose cache has the right checksum."""
    run(chain.SFT)
    known(SFT / "model" / "weights", "0" * 64)
    assert run(chain.SFT) == (0, "sft      up to date\n", "")
    assert "0" * 64 not in (RUN / ".hashes.json").read_text()
    assert not (RUN / "quarantine").exists()


ADDED = (
    *("model/adapter_config.json", "model/adapter_model.safetensors", "model/config.json"),
    *("model/generation_config.json", "model/tokenizer.json", "model/chat_template.jinja"),
    *("model/model.safetensors.index.json", "model/pytorch_model.bin", "model/custom.py"),
    *("model/sub/config.json", "model/.hidden", "adapter/adapter_config.json", "summary.json"),
    *("new", ".DS_Store", "model/special_tokens_map.json", "model/added_tokens.json"),
    *(
        "model/processor_config.json",
        "model/vocab.json",
        "model/vocab.txt",
        "model/merges.txt",
        "a/b/c/d",
    ),
)


@pytest.mark.parametrize("name", ADDED)
def test_a_file_added_to_an_artifact_is_refused_and_the_artifact_kept(run, name):
    """F7: a library would load it."""
    run(chain.SFT)
    before = everything(SFT)
    (SFT / name).parent.mkdir(parents=True, exist_ok=True)
    (SFT / name).write_text("{}")
    for stage in (chain.SFT, chain.REWARD):
        code, _, err = run(stage)
        assert code == 5
        assert err == (
            f"error: runs/r/sft/{name}: not published with the rest of runs/r/sft, and a library "
            "might load it; move it out of there and run again\n"
        )
    (SFT / name).unlink()
    assert run(chain.SFT) == (0, "sft      up to date\n", "")
    assert everything(SFT) == before


def test_a_link_in_an_artifact_is_refused_also_one_to_the_same_bytes(run):
    """F7: what it leads to may be another thing a moment later."""
    run(chain.SFT)
    (SFT / "model" / "more").symlink_to("weights")
    code, _, err = run(chain.SFT)
    assert code == 5
    assert err.startswith("error: runs/r/sft/model/more: not published with the rest of")
    (SFT / "model" / "more").unlink()
    shutil.copy(SFT / "model" / "weights", "elsewhere")
    (SFT / "model" / "weights").unlink()
    (SFT / "model" / "weights").symlink_to(Path("elsewhere").resolve())
    assert run(chain.SFT)[1].startswith("sft      runs: runs/r/sft/model/weights: not a plain fil")


LINKS = (
    *(".deps", "failed", "quarantine", ".checkpoints", "wandb", ".hashes.json", "sft", ".tmp-x"),
    *(".deps/sft.mk", "failed/sft.metrics.jsonl", "quarantine/reasons.txt", ".checkpoints/sft"),
    *(".checkpoints/sft/attempt.json", ".checkpoints/sft/sft-step-1"),
)


@pytest.mark.parametrize("target", ["a folder", "a file", "nothing"])
@pytest.mark.parametrize("name", LINKS)
def test_nothing_is_written_through_a_link_in_the_run_directory(run, monkeypatch, name, target):
    """F13: stages write there without asking."""
    elsewhere = Path("elsewhere")
    elsewhere.mkdir()
    (elsewhere / "folder").mkdir()
    (elsewhere / "file").write_text("mine")
    before = everything(elsewhere)
    (RUN / name).parent.mkdir(parents=True)
    (RUN / name).symlink_to((elsewhere / target.split()[-1]).resolve())
    code, _, err = run(chain.SFT)
    assert code == 2
    assert err.startswith(f"error: runs/r/{name}: is a symbolic link") and err.count("\n") == 1
    assert everything(elsewhere) == before
    assert not any((elsewhere / "folder").iterdir())
    (RUN / name).unlink()
    assert run(chain.SFT)[0] == 0
