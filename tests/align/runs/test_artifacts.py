import errno
import os
import signal
import subprocess
import sys

import pytest
from pydantic import ValidationError

from align.config import Recipe
from align.messages.errors import ConfigError, CorruptArtifactError, RetryableError, UserError
from align.runs import artifacts
from align.runs.artifacts import (
    publish,
    quarantine,
    read_artifact,
    recover,
    retryable,
    workspace,
)
from align.runs.manifest import Manifest
from align.runs.run_dir import lock, open_run


def make(run, text="weights", stage="sft"):
    manifest = Manifest(stage=stage, fingerprint=text, inputs={}, config={}, seed=0)
    with workspace(run / stage) as work:
        (work / "model").mkdir()
        (work / "model" / "w").write_text(text)
        return publish(work, run / stage, manifest)


def test_a_published_artifact_reads_back_verified(tmp_path):
    artifact = make(tmp_path)
    assert artifact.model == tmp_path / "sft" / "model"
    assert read_artifact(tmp_path / "sft") == artifact
    assert artifact.manifest.files["model/w"].size == len("weights")
    assert [path.name for path in tmp_path.iterdir()] == ["sft"]


def test_a_new_artifact_replaces_the_old_one(tmp_path):
    make(tmp_path, "old")
    make(tmp_path, "new")
    assert (tmp_path / "sft" / "model" / "w").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["sft"]


def test_a_failure_leaves_the_old_artifact_and_no_trace(tmp_path):
    make(tmp_path, "old")
    with pytest.raises(ZeroDivisionError), workspace(tmp_path / "sft") as work:
        (work / "half").write_text("x")
        raise ZeroDivisionError
    assert read_artifact(tmp_path / "sft").manifest.fingerprint == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["sft"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b"Weights"),
    ],
    ids=["missing", "empty", "truncated", "one bit"],
)
@pytest.mark.parametrize("name", ["model/w", "manifest.json"])
def test_damage_to_any_file_is_noticed_and_named(tmp_path, damage, name):
    make(tmp_path)
    damage(tmp_path / "sft" / name)
    with pytest.raises(CorruptArtifactError, match=name):
        read_artifact(tmp_path / "sft")


# Each call that a commit makes to the file system, in order, dies once; what is found afterwards
# must be the old artifact or the new one.
CRASH = """
import os, pathlib, sys
sys.path.insert(0, "")
from tests.align.runs.test_artifacts import make
crash_at, run, count = int(sys.argv[1]), pathlib.Path(sys.argv[2]), 0
def counted(function):
    def call(*args, **kwargs):
        global count
        count += 1
        if count == crash_at:
            os._exit(9)
        return function(*args, **kwargs)
    return call
os.fsync = counted(os.fsync)
for name in ("rename", "write_text", "chmod", "mkdir"):
    setattr(pathlib.Path, name, counted(getattr(pathlib.Path, name)))
make(run, "new")
"""


def test_a_crash_at_any_call_of_the_commit_leaves_a_whole_artifact(tmp_path):
    outcomes = []
    for crash_at in range(1, 100):
        run = tmp_path / str(crash_at)
        run.mkdir()
        make(run, "old")
        done = subprocess.run([sys.executable, "-c", CRASH, str(crash_at), str(run)], check=False)
        with lock(run):
            pass  # taking the lock recovers
        outcomes.append(read_artifact(run / "sft").manifest.fingerprint)
        assert sorted(path.name for path in run.iterdir()) == [".lock", "sft"]
        if done.returncode == 0:
            break
        assert done.returncode == 9
    # Eleven calls to crash at, the last of them after the rename, and one run to the end.
    assert outcomes == ["old"] * 10 + ["new"] * 2


def test_a_fault_of_the_disk_is_korean_and_names_its_path_once(monkeypatch):
    monkeypatch.setenv("ALIGN_LANG", "ko")
    with pytest.raises(UserError) as caught, retryable("runs/x: 만들 수 없습니다"):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), "runs/x")
    told = "runs/x: 만들 수 없습니다: 권한이 없습니다. 바로잡은 뒤 다시 실행하십시오."
    assert caught.value.told() == told


@pytest.mark.parametrize(
    ("code", "kind"),
    [(errno.ENOSPC, RetryableError), (errno.EIO, RetryableError), (errno.EACCES, UserError)],
)
def test_a_fault_while_publishing_is_one_line_and_keeps_the_old_artifact(
    tmp_path, monkeypatch, code, kind
):
    make(tmp_path, "old")

    def fail(path):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(artifacts, "_sync", fail)
    with pytest.raises(kind) as caught:
        make(tmp_path, "new")
    assert os.strerror(code) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == (75 if kind is RetryableError else 2)
    assert read_artifact(tmp_path / "sft").manifest.fingerprint == "old"


def test_links_are_not_written_through(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "sft").symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="not a plain folder"):
        make(tmp_path)
    (tmp_path / "run").symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="symbolic link"):
        open_run(tmp_path, "run")
    (tmp_path / ".lock").symlink_to(elsewhere / "victim")
    with pytest.raises(UserError, match=r"\.lock"), lock(tmp_path):
        pass
    assert list(elsewhere.iterdir()) == []


def test_a_stage_may_not_publish_a_link(tmp_path):
    manifest = Manifest(stage="sft", fingerprint="", inputs={}, config={}, seed=0)
    with workspace(tmp_path / "sft") as work:
        (work / "link").symlink_to("/etc/hostname")
        with pytest.raises(CorruptArtifactError, match="symbolic link"):
            publish(work, tmp_path / "sft", manifest)


def test_a_manifest_may_not_lead_out_of_its_folder(tmp_path):
    manifest = make(tmp_path).manifest
    record = manifest.files["model/w"]
    moved = manifest.model_copy(update={"files": {"../outside": record}})
    (tmp_path / "outside").write_text("weights")
    (tmp_path / "sft" / "manifest.json").write_text(artifacts.dump_manifest(moved))
    with pytest.raises(CorruptArtifactError, match="leads out of the folder"):
        read_artifact(tmp_path / "sft")


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "/etc",
        ".hidden",
        "-rf",
        "a b",
        "a\nb",
        "x" * 65,
        "실 행",
        "a\0b",
    ],
)
def test_run_names_that_could_lead_elsewhere_are_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="run name"):
        open_run(tmp_path / "runs", name)
    assert not (tmp_path / "runs").exists()


def test_a_run_in_use_is_refused_naming_the_process(tmp_path):
    with (
        lock(tmp_path),
        pytest.raises(UserError, match=f"in use by process {os.getpid()}; wait for it, or"),
        lock(tmp_path),
    ):
        pass
    with lock(tmp_path):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    code = (
        "import sys, time, pathlib; from align.runs.run_dir import lock\n"
        "with lock(pathlib.Path(sys.argv[1])): print(1, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        with pytest.raises(UserError, match=str(holder.pid)), lock(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
    with lock(tmp_path):
        pass


def test_the_lock_waits_for_the_children_of_a_killed_holder_to_end(tmp_path):
    code = (
        "import os, signal, sys, time, pathlib; from align.runs.run_dir import lock\n"
        "with lock(pathlib.Path(sys.argv[1])):\n"
        "    if os.fork() == 0: time.sleep(0.3); os._exit(0)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    with lock(tmp_path):
        pass


def test_what_a_killed_process_left_is_cleared_and_a_moved_artifact_returns(tmp_path):
    make(tmp_path)
    (tmp_path / "sft").rename(tmp_path / ".old-sft-123")
    (tmp_path / ".tmp-sft-abc").mkdir()
    recover(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["sft"]
    read_artifact(tmp_path / "sft")


def test_quarantine_keeps_every_damaged_artifact_and_says_why(tmp_path):
    for number in (1, 2):
        make(tmp_path)
        assert quarantine(tmp_path / "sft", "altered").name == f"sft-{number}"
    reasons = (tmp_path / "quarantine" / "reasons.txt").read_text()
    assert reasons == "sft-1: altered\nsft-2: altered\n"


def test_other_errors_pass_through_retryable():
    with pytest.raises(ValueError, match="x"), retryable("y"):
        raise ValueError("x")


@pytest.mark.parametrize("name", ["한글-실행.1", "Straße", "実験2", "опыт_3", "q"])
def test_a_run_is_named_in_letters_of_any_script(tmp_path, name):
    assert open_run(tmp_path, name) == tmp_path / name
    assert Recipe(name=name, model={"path": "base"}, data={}).name == name


def test_a_name_is_the_same_composed_and_decomposed(tmp_path):
    assert open_run(tmp_path, "\u1112\u1161\u11ab") == tmp_path / "\ud55c"
    assert Recipe(name="\u1112\u1161\u11ab", model={"path": "b"}, data={}).name == "\ud55c"


@pytest.mark.parametrize(
    "name",
    ["한/글", "한\n글", "한\u202e글", "한\u200b글", "_한", ".한", "글\x00", "가" * 65],
)
def test_no_path_space_control_or_invisible_character_is_in_a_run_name(tmp_path, name):
    with pytest.raises(ConfigError, match="a run name is"):
        open_run(tmp_path, name)
    with pytest.raises(ValidationError):
        Recipe(name=name, model={"path": "base"}, data={})
