"""All stages end to end, on a tiny random model and a few rows: what a person types, and gets."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from align.config.recipe import load_recipe
from align.runs.artifacts import read_artifact
from align.runs.run_dir import lock
from stages.pipeline import needed
from tests.stages.whole_chain import CHAIN, HEAVY, RECIPE, ROOT, call


def test_one_command_makes_every_artifact_and_ends_with_the_table(finished):
    folder, out = finished
    ran = re.findall(r"^(\w+) +runs: first run$", out, re.M)
    assert tuple(ran) == CHAIN
    done = re.findall(r"^(\w+) +done in [\d:]+ → (.*)$", out, re.M)
    assert done == [(stage, f"runs/r/{stage}") for stage in CHAIN]
    for stage in CHAIN:
        assert read_artifact(folder / "runs" / "r" / stage).manifest.stage == stage
    assert out.rstrip().endswith("report: runs/r/report/report.html")
    assert "7 stages in" in out
    policies = re.findall(r"^(base|SFT|DPO|KTO|PPO) ", out, re.M)
    assert policies == ["base", "SFT", "DPO", "PPO", "KTO"]


@pytest.mark.parametrize(
    ("policies", "needed_stages"),
    [
        ("[base, sft, dpo, ppo, kto]", CHAIN),
        ("[sft, best_of_n]", ("sft", "reward", "evaluate", "report")),
        ("[sft, grpo, rloo]", ("sft", "reward", "rloo", "grpo", "evaluate", "report")),
    ],
)
def test_the_pipeline_makes_the_policies_that_are_compared(tmp_path, policies, needed_stages):
    (tmp_path / "r.yaml").write_text(RECIPE)
    recipe = load_recipe(tmp_path / "r.yaml", [f"evaluate.policies={policies}"])
    assert tuple(stage.name for stage in needed(recipe)) == needed_stages


def test_artifacts_name_the_parents_they_were_made_from(finished):
    run = finished[0] / "runs" / "r"
    manifests = {stage: read_artifact(run / stage).manifest for stage in CHAIN}
    expected = {
        "sft": set(),
        "reward": {"sft"},
        "dpo": {"sft"},
        "kto": {"sft"},
        "ppo": {"sft", "reward"},
        "evaluate": {"sft", "reward", "dpo", "kto", "ppo"},
    }
    for stage, parents in expected.items():
        assert manifests[stage].parents == {name: manifests[name].fingerprint for name in parents}
    trained = [manifests[stage] for stage in ("sft", "reward", "dpo", "kto", "ppo")]
    assert len({m.tokenizer_hash for m in trained}) == 1
    assert None not in {m.tokenizer_hash for m in trained} | {m.template_hash for m in trained}
    assert manifests["dpo"].kind == "adapter"
    assert (run / "dpo" / "adapter" / "adapter_config.json").is_file()
    assert manifests["reward"].reward_std > 0
    assert all(m.threads == 1 for m in trained)


def test_every_stage_leaves_its_curve_and_one_group_in_wandb(finished):
    run = finished[0] / "runs" / "r"
    for stage in ("sft", "reward", "dpo", "kto", "ppo"):
        rows = (run / stage / "metrics.jsonl").read_text().splitlines()
        assert rows
        keys = {key for row in rows for key in json.loads(row)} - {"step", "time"}
        assert all(key.startswith(f"{stage}/") and key.count("/") == 2 for key in keys), keys
    assert len(list(run.glob("wandb/offline-run-*"))) >= 4


def test_a_second_call_does_nothing_and_loads_no_torch(finished):
    folder, _ = finished
    code, out, errors, imported = call(folder, "pipeline")
    assert (code, errors) == (0, "")
    assert out.startswith("".join(f"{stage:<9}up to date\n" for stage in CHAIN))
    assert not imported & HEAVY


def test_each_stage_alone_is_up_to_date_too(finished):
    folder, _ = finished
    for module, *method in (["sft"], ["rlhf", "method=ppo"], ["report"]):
        code, out, _, imported = call(folder, module, *method)
        assert code == 0
        assert "up to date\n" in out
        assert not imported & HEAVY


def test_changing_a_setting_reruns_the_stages_that_depend_on_it_and_no_other(finished):
    folder, _ = finished
    code, out, errors, _ = call(folder, "pipeline", "ppo.kl_coef=0.2")
    assert code == 0, errors
    expected = [
        "sft      up to date",
        "reward   up to date",
        "dpo      up to date",
        "kto      up to date",
        "ppo      runs: ppo.kl_coef 0.05 → 0.2",
        "evaluate runs: parents.ppo changed",
        "report   runs: parents.evaluate changed",
    ]
    told = [line for line in out.splitlines() if re.match(r"\w+ +(up to date|runs:)", line)]
    assert [line.split(",")[0] for line in told] == expected


def test_a_published_policy_loads_without_this_package(finished):
    code = (
        "import sys; from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "for path in sys.argv[1:]:\n"
        "    model = AutoModelForCausalLM.from_pretrained(path)\n"
        "    tokenizer = AutoTokenizer.from_pretrained(path)\n"
        "    ids = tokenizer.apply_chat_template([{'role': 'user', 'content': 'What is 1 + 3?'}],"
        " add_generation_prompt=True, return_tensors='pt', return_dict=True)\n"
        "    out = model.generate(**ids, do_sample=False, max_new_tokens=4)\n"
        "    assert 'align' not in sys.modules and out.shape[1] > ids['input_ids'].shape[1]\n"
    )
    models = [str(finished[0] / "runs" / "r" / s / "model") for s in ("sft", "dpo", "kto", "ppo")]
    subprocess.run([sys.executable, "-I", "-c", code, *models], check=True, cwd="/")


def test_a_stopped_pipeline_publishes_nothing_and_frees_the_run(finished):
    folder, _ = finished
    command = [sys.executable, "-m", "stages.pipeline", "r.yaml", "run=stopped"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    with subprocess.Popen(
        [*command, "sft.trainer.max_steps=100000", "tracking.wandb=off"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout.readline() == "sft      runs: first run\n"
        while not running.stdout.readline().startswith("sft      1/100000"):
            pass
        running.send_signal(signal.SIGTERM)
        _, errors = running.communicate()
    assert running.returncode == 143
    assert errors == (
        "SIGTERM: saves after this step; again: stops at once\n"
        "stopped by SIGTERM; nothing half-done was published, the same command goes on\n"
    )
    run = folder / "runs" / "stopped"
    assert not (run / "sft").exists()
    assert not list(run.glob(".tmp-*"))
    with lock(run):
        pass


def test_a_killed_pipeline_goes_on_in_the_middle_of_ppo_and_a_stopped_one_saves_first(finished):
    """kill -9 ends the pipeline and its child; SIGTERM makes the child save."""
    folder, _ = finished
    run = folder / "runs" / "killed"
    command = [sys.executable, "-m", "stages.pipeline", "r.yaml", "run=killed"]
    command += [f"parents.{stage}=runs/r/{stage}" for stage in ("sft", "reward", "dpo", "kto")]
    command += ["ppo.iterations=100000", "ppo.checkpoint_every=1", "tracking.wandb=off"]

    def end_by(number):
        """Send a signal once PPO has logged and saved something."""
        with subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as running:
            told = ""
            while not re.search(r"^ppo      [1-9]\d*/100000 ", told, re.M):
                line = running.stdout.readline()
                assert line, running.stderr.read()
                told += line
            while not list(run.glob(".checkpoints/ppo/ppo-step-*")):
                time.sleep(0.01)
            running.send_signal(number)
            rest, errors = running.communicate()
        return running.returncode, told + rest, errors

    code, out, _ = end_by(signal.SIGKILL)
    assert (code, "resumes" in out) == (-signal.SIGKILL, False)
    code, out, errors = end_by(signal.SIGTERM)
    assert code == 143
    assert re.search(r"^ppo      resumes at \d+/100000 from a checkpoint$", out, re.M)
    assert re.search(r"^ppo      saved at \d+/100000; the same command goes on", out, re.M)
    assert errors == (
        "SIGTERM: saves after this step; again: stops at once\n"
        "stopped by SIGTERM; nothing half-done was published, the same command goes on\n"
    )


# ------------------------------------------------------------------------------------- bad input
