"""Evaluation and report, end to end on tiny random models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForSequenceClassification

from align.config import DataSource, Recipe
from align.config.recipe import load_recipe
from align.messages.errors import ConfigError, DataError
from align.report.frontier import words
from align.runs.artifacts import Artifact
from align.runs.contract import StageContext
from align.runs.manifest import Manifest
from align.runs.tracking import Tracker
from stages import evaluate, report
from tests import tiny

FAMILIES = ("capital", "greet")
CHECKS = [{"kind": "contains_any", "values": ["a", "e", "o"], "core": True}]


def artifact(folder: Path, stage: str) -> Artifact:
    manifest = Manifest(stage=stage, fingerprint="f" * 64, inputs={}, config={}, seed=0)
    return Artifact(folder, manifest)


def save_policy(folder: Path, seed: int) -> None:
    tiny.llama(seed).save_pretrained(folder / "model")
    tiny.tokenizer().save_pretrained(folder / "model")


def save_reward_model(folder: Path) -> None:
    torch.manual_seed(9)
    config = tiny.llama(0).config
    config.num_labels = 1
    LlamaForSequenceClassification(config).save_pretrained(folder / "model")


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def prompts(checks: bool = True) -> list[dict[str, Any]]:
    rows = []
    for i in range(8):
        row = {
            "id": f"p{i}",
            "family": FAMILIES[i % 2],
            "language": "ko" if i % 4 < 2 else "en",
            "seen": i < 4,
            "prompt": f"Hello {i}" if i % 4 >= 2 else f"안녕 {i}",
        }
        rows.append(row | ({"checks": CHECKS} if checks else {}))
    return rows


def recipe(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> Recipe:
    pairs = [
        {"prompt": f"q{i}", "chosen": "yes yes", "rejected": "no", "family": "greet", "bayes": 0.9}
        for i in range(6)
    ]
    settings = {
        "policies": ["base", "sft", "ppo"],
        "samples_per_prompt": 2,
        "max_new_tokens": 6,
        "bootstrap": 100,
    } | settings
    return Recipe.model_validate(
        {
            "name": "tiny",
            "model": {"path": str(folder / "base" / "model"), "device": "cpu", "threads": 1},
            "data": {
                "evaluation": write_rows(folder / "evaluation.jsonl", rows),
                "preferences_heldout": write_rows(folder / "pairs.jsonl", pairs),
            },
            "evaluate": settings,
        }
    )


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    for name, seed in (("base", 0), ("sft", 1), ("ppo", 2), ("rloo", 3)):
        save_policy(folder / name, seed)
    save_reward_model(folder / "reward")
    for name in ("sft", "reward", "ppo", "rloo"):
        rows = [{"step": step, "time": 0.0, f"{name}/train/loss": 1 / step} for step in (1, 2, 3)]
        write_rows(folder / name / "metrics.jsonl", rows)
    return folder


def run_stage(stage: Any, recipe: Recipe, run_dir: Path, out: Path) -> Path:
    out.mkdir(parents=True)
    parents = {name: artifact(run_dir / name, name) for name in stage.parent_names(recipe)}
    with Tracker(out, stage.name) as tracker:
        stage.run(StageContext(recipe, out, parents, tracker, seed=0))
    return out


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def evaluated(run_dir: Path) -> Path:
    return run_stage(evaluate.STAGE, recipe(run_dir, prompts()), run_dir, run_dir / "evaluate")


def test_every_policy_answers_the_same_prompts(evaluated: Path) -> None:
    summary = summary_of(evaluated)
    assert list(summary["policies"]) == ["base", "sft", "ppo"]
    for policy in summary["policies"].values():
        assert policy["gold"]["all"]["n"] == 8
        assert policy["gold"]["seen"]["n"] == policy["gold"]["unseen"]["n"] == 4
        assert {name: part["n"] for name, part in policy["gold"]["family"].items()} == {
            "capital": 4,
            "greet": 4,
        }
    assert summary["setup"]["prompts"]["judged"] == 8
    assert summary["reward_model"]["ceiling"] == pytest.approx(0.9)


def test_sft_is_at_no_distance_from_itself_and_has_nothing_to_win(evaluated: Path) -> None:
    sft, ppo = (summary_of(evaluated)["policies"][name] for name in ("sft", "ppo"))
    assert sft["kl_sequence"]["mean"] == 0.0
    assert sft["win_rate"] is None and sft["gold_gain"] is None
    assert ppo["kl_sequence"]["mean"] > 0.1
    assert ppo["win_rate"]["judge"] == "gold"
    means = [ppo["gold"]["all"]["mean"], sft["gold"]["all"]["mean"]]
    assert ppo["gold_gain"]["all"]["mean"] == pytest.approx(means[0] - means[1])


def test_samples_hold_every_answer_with_its_scores(evaluated: Path) -> None:
    lines = (evaluated / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["id"] for row in rows] == [f"p{i}" for i in range(8)]
    answers = [one for row in rows for one in row["responses"]["ppo"]["sampled"]]
    assert len(answers) == 16
    policy = summary_of(evaluated)["policies"]["ppo"]
    for key, entry in (("gold", policy["gold"]["all"]), ("reward", policy["reward"]["all"])):
        mean = sum(answer[key] for answer in answers) / len(answers)
        assert entry["mean"] == pytest.approx(mean)


def test_a_second_run_gives_the_same_numbers(evaluated: Path, run_dir: Path) -> None:
    again = run_stage(evaluate.STAGE, recipe(run_dir, prompts()), run_dir, run_dir / "again" / "e")
    assert summary_of(again)["policies"] == summary_of(evaluated)["policies"]
    assert (again / "samples.jsonl").read_bytes() == (evaluated / "samples.jsonl").read_bytes()


def test_a_larger_batch_changes_no_number(evaluated: Path, run_dir: Path) -> None:
    changed = recipe(run_dir, prompts(), batch_size=3)
    again = run_stage(evaluate.STAGE, changed, run_dir, run_dir / "batch" / "e")
    for name, policy in summary_of(again)["policies"].items():
        before = summary_of(evaluated)["policies"][name]
        for key in ("kl_sequence", "length", "stop_rate"):
            assert policy[key] == pytest.approx(before[key], rel=1e-4)


def test_without_checks_gold_is_absent_and_the_rest_is_there(run_dir: Path) -> None:
    plain = recipe(run_dir, prompts(checks=False), policies=["sft", "ppo"])
    summary = summary_of(run_stage(evaluate.STAGE, plain, run_dir, run_dir / "plain" / "e"))
    ppo = summary["policies"]["ppo"]
    assert ppo["gold"] is None and ppo["gold_gain"] is None
    assert ppo["win_rate"]["judge"] == "reward"
    assert ppo["reward"]["all"]["n"] == 8
    assert summary["setup"]["prompts"]["judged"] == 0


def test_checks_that_no_judge_knows_name_their_row(run_dir: Path) -> None:
    rows = prompts()
    rows[2]["checks"] = [{"kind": "sparkles", "core": True}]
    with pytest.raises(DataError, match=r"evaluation\.jsonl:3: checks: kind='sparkles'"):
        run_stage(evaluate.STAGE, recipe(run_dir, rows), run_dir, run_dir / "bad" / "e")


def test_prompts_beyond_the_models_positions_are_left_out_and_counted(run_dir: Path) -> None:
    rows = [*prompts(), {"prompt": "a " * 400, "checks": CHECKS}]
    long = recipe(run_dir, rows, policies=["sft"])
    summary = summary_of(run_stage(evaluate.STAGE, long, run_dir, run_dir / "long" / "e"))
    assert summary["setup"]["left_out"]["prompts"] == 1
    assert summary["setup"]["prompts"]["all"] == 8


def test_pairs_whose_prompt_was_trained_on_are_left_out_and_counted(run_dir: Path) -> None:
    plain = recipe(run_dir, prompts(), policies=["sft"])
    trained = [{"prompt": "q0", "chosen": "a", "rejected": "b"}]
    data = plain.data.model_copy(
        update={"preferences": DataSource(path=write_rows(run_dir / "trained.jsonl", trained))}
    )
    changed = plain.model_copy(update={"data": data})
    summary = summary_of(run_stage(evaluate.STAGE, changed, run_dir, run_dir / "trained" / "e"))
    assert summary["setup"]["left_out"]["pairs"] == {"trained_on": 1, "too_long": 0}
    assert summary["reward_model"]["pairs"] == 5


def test_the_peers_of_ppo_are_compared_at_its_kl(run_dir: Path) -> None:
    names = ["best_of_n", "sft", "rloo"]
    given = recipe(run_dir, prompts(), policies=names, best_of_n=3)
    assert evaluate.STAGE.parent_names(given) == ("sft", "reward", "rloo")
    out = run_stage(evaluate.STAGE, given, run_dir, run_dir / "baselines" / "evaluate")
    summary = summary_of(out)
    assert list(summary["policies"]) == names
    best, sft, rloo = summary["policies"].values()
    assert best["kl_sequence"] is None
    assert best["kl_bound"] == pytest.approx(1.098612 - 2 / 3, abs=1e-6)
    assert best["reward_gain"]["all"]["mean"] > 0
    assert best["greedy"] == sft["greedy"]
    assert rloo["kl_sequence"]["mean"] > 0.1
    found = summary["best_of_n"]
    assert found["drawn"] == 6  # two samples, each the best of three
    first, last = found["curve"][0]["reward"]["mean"], found["curve"][-1]["reward"]["mean"]
    assert first < best["reward"]["all"]["mean"] < last
    assert found["against"].keys() == {"rloo"}
    assert report.STAGE.parent_names(given) == ("evaluate", "sft", "reward", "rloo")
    (told,) = words(summary)
    assert told.startswith("RLOO is") and told.endswith("where the curve ends.")


def test_the_report_is_written_from_the_evaluation(evaluated: Path, run_dir: Path) -> None:
    out = run_stage(report.STAGE, recipe(run_dir, prompts()), run_dir, run_dir / "report")
    page = (out / "report.html").read_text(encoding="utf-8")
    notes = (out / "report.md").read_text(encoding="utf-8")
    ppo = summary_of(evaluated)["policies"]["ppo"]["gold"]["all"]
    for text in (page, notes):
        assert f"{ppo['mean']:.2f}" in text
        assert "Reward model" in text and "loss" in text
    assert str(run_dir) not in page + notes
    assert (out / "report.txt").read_text(encoding="utf-8").startswith(" ")
    assert load_recipe(out / "recipe.yaml") == recipe(run_dir, prompts())


def test_a_summary_of_another_format_is_refused_in_one_line(
    evaluated: Path, run_dir: Path, tmp_path: Path
) -> None:
    older = shutil.copytree(run_dir, tmp_path / "older")
    path = older / "evaluate" / "summary.json"
    path.write_text(json.dumps(summary_of(evaluated) | {"format": 2}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"evaluate/summary.json: format=2, expected 3; make"):
        run_stage(report.STAGE, recipe(run_dir, prompts()), older, tmp_path / "report")
