import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from align.runs.runner import main
from tests.align.runs import chain

ROOT = Path(__file__).parents[3]


def everything(folder):
    return {p: p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def test_a_stage_runs_once_and_is_then_up_to_date(run):
    code, out, err = run(chain.SFT)
    assert (code, err) == (0, "")
    assert out.startswith("sft      runs: first run\n")
    assert "sft      done in 0:00 → runs/r/sft\n" in out
    published = everything("runs/r/sft")
    assert run(chain.SFT) == (0, "sft      up to date\n", "")
    assert everything("runs/r/sft") == published


def test_a_stage_shows_its_text_also_when_it_is_up_to_date(run):
    shown = dataclasses.replace(chain.SFT, text="model/weights")
    assert run(shown)[1].endswith("sft0")
    assert run(shown)[1] == "sft      up to date\nsft0"


def test_an_up_to_date_stage_is_newer_than_its_parents_for_make(run):
    run(chain.SFT)
    run(chain.REWARD)
    run(chain.SFT)
    run(chain.REWARD)
    sft, reward = (Path(f"runs/r/{s}/manifest.json").stat().st_mtime_ns for s in ("sft", "reward"))
    assert reward >= sft


def test_the_manifest_says_what_the_result_was_made_from(run):
    run(chain.SFT, "seed=3")
    run(chain.REWARD, "seed=3")
    manifest = json.loads(Path("runs/r/reward/manifest.json").read_text())
    sft = json.loads(Path("runs/r/sft/manifest.json").read_text())
    assert manifest["parents"] == {"sft": sft["fingerprint"]}
    assert manifest["seed"] == 3
    assert manifest["metrics"] == {"loss": 0.5}
    assert manifest["config"]["reward"]["max_length"] == 512
    assert set(manifest["files"]) == {"metrics.jsonl", "model/weights"}
    assert manifest["versions"].keys() == {
        *("torch", "transformers", "trl", "peft", "accelerate", "tokenizers", "datasets"),
        *("numpy", "safetensors", "jinja2"),
    }


def test_where_settings_alone_differ_those_of_the_published_one_are_told(run):
    run(chain.SFT, "max_length=9")
    _, out, _ = run(chain.SFT)
    assert out.splitlines()[:2] == [
        "sft      runs: sft.max_length 9 → 8",
        '         the published sft was made with SET="sft.max_length=9"; stop and give that to '
        "keep it, or RUN=NAME to make another beside it",
    ]
    Path("sft.jsonl").write_text("{}\n")
    _, out, _ = run(chain.SFT, "seed=1")
    assert "was made with" not in out


def test_method_picks_between_stages(run):
    run(chain.SFT)
    assert run((chain.DPO, chain.PPO), "method=dpo")[0] == 0
    assert Path("runs/r/dpo").is_dir()
    code, _, err = run((chain.DPO, chain.PPO))
    assert (code, err) == (2, "error: method=: choose one of dpo, ppo\n")


AS_ANYBODY = """
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: root reads everything by them
    ctypes.CDLL(None).prctl(24, capability)  # PR_CAPBSET_DROP
os.execv(sys.executable, [sys.executable, "-m", "stages.sft", *sys.argv[1:]])
"""


@pytest.mark.parametrize("closed", ["sft.jsonl", "."])
def test_what_may_not_be_read_or_written_is_one_line(tmp_path, closed):
    """The file of the data; the folder of the runs."""
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "sft.jsonl").write_text('{"prompt": "a", "response": "b"}\n', "utf-8")
    (folder / closed).chmod(0)
    settings = [f"runs_dir={folder}/runs", f"data.instructions={folder}/sft.jsonl"]
    command = [sys.executable, "-c", AS_ANYBODY, "stages/recipes/tiny.yaml", *settings]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    folder.chmod(0o755)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {folder}/")
    assert "Permission denied" in line


def test_run_and_runs_dir_choose_the_folder(run):
    run(chain.SFT, "run=other", "runs_dir=elsewhere")
    assert Path("elsewhere/other/sft/manifest.json").is_file()


def test_a_parent_can_come_from_another_run(run):
    run(chain.SFT, "run=one")
    assert run(chain.REWARD, "run=two", "parents.sft=runs/one/sft")[0] == 0
    assert run(chain.DPO, "run=two", "parents.sft=runs/one/base")[0] == 2


def test_force_runs_again(run):
    run(chain.SFT)
    assert run(chain.SFT, "force=true")[1].startswith("sft      runs: force=true\n")
    assert run(chain.SFT, "force=yes")[2] == "error: force=yes: choose true or false\n"


REFUSED = [
    (["nope.yaml"], 2, "nope.yaml: no such recipe"),
    (["r.yaml", "sft.max_lenth=3"], 2, "command line: sft.max_lenth: unknown key; did you mean"),
    (["r.yaml", "run=../x"], 2, "run=../x: a run name is"),
    (["r.yaml", "data.instructions.path=no.jsonl"], 3, "data.instructions.path=no.jsonl: no such"),
    (["r.yaml", "model.path=no"], 2, "model.path=no: no such folder"),
    (["r.yaml", "data.instructions=null"], 2, "data.instructions: missing, and sft needs it"),
]


@pytest.mark.parametrize(("argv", "code", "told"), REFUSED, ids=lambda value: str(value)[-24:])
def test_bad_input_is_one_line_with_its_exit_code_and_nothing_is_lost(
    run, capsys, argv, code, told
):
    run(chain.SFT)
    before = everything("runs/r/sft")
    assert main(chain.SFT, argv=argv) == code
    out, err = capsys.readouterr()
    assert err.startswith(f"error: {told}")
    assert err.count("\n") == 1
    assert "done" not in out
    assert everything("runs/r/sft") == before


def test_a_missing_parent_says_what_to_run(run):
    code, _, err = run(chain.REWARD)
    assert code == 2
    assert err == (
        "error: runs/r/sft: no sft artifact here; run `make sft` first, or give "
        "parents.sft=FOLDER of another run\n"
    )


def test_parents_with_two_tokenizers_are_refused(run, monkeypatch):
    run(chain.SFT)
    run(chain.REWARD)
    monkeypatch.setattr(
        chain, "_write", lambda c, s: chain.StageResult({}, {"tokenizer_hash": "u"})
    )
    run(chain.SFT, "run=other")
    code, _, err = run(chain.PPO, "parents.sft=runs/other/sft")
    assert code == 2
    assert err.startswith(
        "error: tokenizer of reward (runs/r/reward) differs from that of sft (runs/o"
    )
    assert not Path("runs/r/ppo").exists()


def test_a_damaged_artifact_is_put_aside_and_made_again(run):
    run(chain.SFT)
    Path("runs/r/sft/model/weights").write_text("SFT0")
    code, out, _ = run(chain.SFT)
    assert code == 0
    assert out.startswith("sft      runs: runs/r/sft/model/weights: altered since it was publi")
    assert Path("runs/r/quarantine/sft-1/model/weights").read_text() == "SFT0"
    assert Path("runs/r/sft/model/weights").read_text() == "sft0"


def test_a_damaged_parent_stops_the_stage_with_code_5_and_a_remedy(run):
    run(chain.SFT)
    Path("runs/r/sft/model/weights").write_text("x")
    code, _, err = run(chain.REWARD)
    assert code == 5
    assert err == (
        "error: runs/r/sft/model/weights: 1 bytes, 4 were published; moved to "
        "runs/r/quarantine/sft-1, run `make sft` to make it anew\n"
    )


def test_a_folder_that_no_stage_made_is_put_aside_not_overwritten(run):
    Path("runs/r/sft").mkdir(parents=True)
    Path("runs/r/sft/mine.txt").write_text("mine")
    assert run(chain.SFT)[0] == 0
    assert Path("runs/r/quarantine/sft-1/mine.txt").read_text() == "mine"


FAULTS = [
    (
        "from align.messages.errors import DivergedError; raise DivergedError('loss=nan')",
        4,
        "error: loss=nan",
    ),
    (
        "from align.messages.errors import DataError; raise DataError('a:1: x\\nb:2: y')",
        3,
        "error: a:1: x",
    ),
    ("raise OSError(28, 'No space left on device')", 75, "error: [Errno 28] No space left"),
    ("import os; os.kill(os.getpid(), 15)", 143, "stopped by SIGTERM; nothing half-done"),
    ("import os; os.kill(os.getpid(), 2)", 130, "stopped by SIGINT; nothing half-done"),
]


@pytest.mark.parametrize(("fault", "code", "told"), FAULTS, ids=[str(f[1]) for f in FAULTS])
def test_a_stage_that_fails_publishes_nothing_and_keeps_its_metrics(
    run, monkeypatch, fault, code, told
):
    run(chain.SFT)
    before = everything("runs/r/sft")
    monkeypatch.setenv("CHAIN_FAULT", fault)
    got, _, err = run(chain.SFT, "seed=1")
    assert got == code
    assert err.startswith(told)
    assert "Traceback" not in err
    assert everything("runs/r/sft") == before
    assert not list(Path("runs/r").glob(".tmp-*"))
    assert "sft/train/loss" in Path("runs/r/failed/sft.metrics.jsonl").read_text()


def test_a_bug_of_ours_keeps_its_traceback(run, monkeypatch):
    monkeypatch.setenv("CHAIN_FAULT", "1 / 0")
    with pytest.raises(ZeroDivisionError):
        run(chain.SFT)
    assert not Path("runs/r/sft").exists()


def test_help_is_quick_and_needs_no_recipe():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "stages.pipeline", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "RECIPE" in done.stdout.upper()
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pydantic" in imported
    assert not imported & {"torch", "transformers", "trl", "datasets", "numpy", "wandb"}


@pytest.mark.parametrize("argv", [[], ["--nonsense"]])
def test_wrong_usage_exits_2(argv, capsys):
    assert main(chain.SFT, argv=argv) == 2
    assert "Usage:" in capsys.readouterr().err
