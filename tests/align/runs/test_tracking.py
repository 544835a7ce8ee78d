import io
import json
import os

from align.runs import tracking
from align.runs.tracking import Tracker, read_metrics


def test_metrics_are_one_json_line_each_and_a_torn_last_line_is_left_out(tmp_path):
    with Tracker(tmp_path, "sft", terminal=io.StringIO()) as tracker:
        tracker.log(1, {"sft/train/loss": 2})
        tracker.log(2, {"sft/train/loss": float("nan")})
        tracker.log(3, {"sft/train/loss": float("-inf")})
    path = tmp_path / "metrics.jsonl"
    rows = read_metrics(path)
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert [row["sft/train/loss"] for row in rows] == [2.0, "nan", "-inf"]
    path.write_bytes(path.read_bytes()[:-4])
    assert [row["step"] for row in read_metrics(path)] == [1, 2]


def test_each_row_is_on_disk_as_soon_as_it_is_logged(tmp_path):
    tracker = Tracker(tmp_path, "sft", terminal=io.StringIO())
    tracker.log(1, {"sft/train/loss": 2})
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 1
    tracker.close()


def test_usage_reports_of_the_libraries_are_switched_off(monkeypatch):
    environment: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", environment)
    tracking.silence_telemetry()
    assert environment["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert environment["DO_NOT_TRACK"] == "1"
    assert environment["WANDB_ERROR_REPORTING"] == "false"


def test_rows_carry_the_time_they_were_written(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking.time, "time", lambda: 12.3456)
    with Tracker(tmp_path, "sft", terminal=io.StringIO()) as tracker:
        tracker.log(1, {})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "time": 12.346}
