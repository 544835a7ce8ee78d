"""`align runs` and `align show` on runs whose stages are published artifacts."""

import os
from datetime import datetime

import pytest

from align.runs.artifacts import publish, workspace
from align.runs.manifest import MANIFEST, Manifest
from align.runs.run_dir import open_run
from stages.command import main

EVENING = datetime(2023, 11, 14, 22, 13).timestamp()


def stage(run_dir, name, *, files=None, when=EVENING, **metrics):
    """Publish a stage with these files and metrics, last changed at `when`."""
    with workspace(run_dir / name) as work:
        for file, content in (files or {}).items():
            (work / file).write_text(content, encoding="utf-8")
        manifest = Manifest(
            stage=name, fingerprint="0" * 64, inputs={}, config={}, seed=0, metrics=metrics
        )
        publish(work, run_dir / name, manifest)
    os.utime(run_dir / name / MANIFEST, (when, when))


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two runs: one that is finished, and a newer one that has only SFT."""
    monkeypatch.chdir(tmp_path)
    done = open_run(tmp_path / "runs", "done")
    stage(done, "sft")
    gold = {"evaluate/gold/base": 0.0, "evaluate/gold/sft": 0.446, "evaluate/gold/ppo": 0.61}
    stage(done, "evaluate", **gold, **{"evaluate/reward/sft": -2.5})
    stage(done, "report", files={"report.txt": "the table\n\nAligned: 됐다.\n"})
    stage(open_run(tmp_path / "runs", "begun"), "sft", when=EVENING + 3600)
    return tmp_path / "runs"


def test_runs_are_listed_by_age_with_their_stages_and_figures(runs, capsys):
    (runs / "notes").mkdir()
    assert main(["runs"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "run    last stage        stages               figures",
        "done   2023-11-14 22:13  sft evaluate report  gold: base 0.00, SFT 0.45, PPO 0.61",
        "begun  2023-11-14 23:13  sft",
    ]


def test_where_no_rule_judges_the_reward_is_the_figure(runs, capsys):
    stage(runs / "begun", "evaluate", **{"evaluate/reward/sft": -2.5})
    assert main(["runs", "--runs-dir", str(runs)]) == 0
    assert "reward: SFT −2.50" in capsys.readouterr().out


def test_a_damaged_manifest_is_said_and_hides_no_other_run(runs, capsys):
    (runs / "begun" / "sft" / MANIFEST).write_text("{}", encoding="utf-8")
    assert main(["runs"]) == 0
    told = capsys.readouterr().out
    assert "sft (damaged)" in told
    assert "sft evaluate report" in told


def test_a_run_is_shown_with_table_verdict_and_where_its_things_lie(runs, capsys):
    (runs / "done" / "sft" / "model").mkdir()
    (runs / "done" / "evaluate" / "samples.jsonl").touch()
    assert main(["show", "done"]) == 0
    assert capsys.readouterr().out == (
        "the table\n\nAligned: 됐다.\nreport: runs/done/report/report.html\n"
        "SFT: runs/done/sft/model\nall answers: runs/done/evaluate/samples.jsonl\n"
    )


@pytest.mark.parametrize(
    "name, told",
    [
        ("don", "error: runs/don: no such run; did you mean `done`?\n"),
        ("begun", "error: runs/begun: has no report yet, only sft; run its recipe to the end\n"),
    ],
)
def test_a_run_that_cannot_be_shown_is_one_line(runs, capsys, name, told):
    assert main(["show", name]) == 2
    assert capsys.readouterr().err == told


def test_without_any_run_the_next_command_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["runs"]) == 0
    assert capsys.readouterr().out == "runs: no runs yet; start one with: align run RECIPE\n"
    assert main(["show", "x"]) == 2
    assert "no run is there yet: align run RECIPE" in capsys.readouterr().err
