"""All stages end to end, on a tiny random model and a few rows: what a person types, and gets."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from align.config.recipe import load_recipe
from align.runs.artifacts import lock, read_artifact
from align.runs.manifest import dump_manifest, load_manifest
from stages.pipeline import needed
from tests import tiny

ROOT = Path(__file__).parents[2]
CHAIN = ("sft", "reward", "dpo", "kto", "ppo", "evaluate", "report")
HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "wandb", "numpy"}
RECIPE = """\
model: {path: base, device: cpu, threads: 1}
data:
  instructions: sft.jsonl
  preferences: pairs.jsonl
  preferences_heldout: heldout.jsonl
  prompts: prompts.jsonl
  evaluation: evaluation.jsonl
tracking: {wandb: offline}
sft:
  max_length: 96
  trainer: {max_steps: 3, per_device_train_batch_size: 4, learning_rate: 1e-3, logging_steps: 1}
reward:
  max_length: 96
  trainer: {max_steps: 3, per_device_train_batch_size: 4, learning_rate: 1e-3, logging_steps: 1}
dpo:
  max_length: 96
  lora: {r: 4, alpha: 8}
  trainer: {max_steps: 3, per_device_train_batch_size: 4, learning_rate: 1e-3, logging_steps: 1}
ppo:
  iterations: 2
  rollout_batch_size: 8
  epochs: 1
  micro_batch_size: 4
  max_new_tokens: 8
kto:
  max_length: 96
  trainer: {max_steps: 3, per_device_train_batch_size: 4, learning_rate: 1e-3, logging_steps: 1}
evaluate: {max_new_tokens: 8, bootstrap: 50, showcase: 2, policies: [base, sft, dpo, ppo, kto]}
"""


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def lay_out(folder):
    """A random base model with its tokenizer, a few rows of each kind, a recipe."""
    model, tokenizer = tiny.llama(), tiny.tokenizer()
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    write_rows(
        folder / "sft.jsonl",
        [{"prompt": f"What is {n} + 1?", "response": f"{n + 1}"} for n in range(24)],
    )
    for name, start in (("pairs", 0), ("heldout", 50)):
        write_rows(
            folder / f"{name}.jsonl",
            [
                {"prompt": f"What is {n} + 2?", "chosen": f"{n + 2}", "rejected": "I know not."}
                for n in range(start, start + 24)
            ],
        )
    for name, start in (("prompts", 0), ("evaluation", 50)):
        write_rows(
            folder / f"{name}.jsonl",
            [
                {
                    "prompt": f"What is {n} + 3?",
                    "checks": [{"kind": "contains_any", "values": [str(n + 3)], "core": True}],
                    "family": "sum",
                    "language": "en",
                    "seen": n % 2 == 0,
                }
                for n in range(start, start + 12)
            ],
        )
    (folder / "r.yaml").write_text(RECIPE)


def call(folder, module, *arguments):
    """Run a stage as a person does; return (exit code, stdout, stderr, imported libraries)."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"stages.{module}", "r.yaml", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        check=False,
    )
    imports = re.findall(r"^import time:.*\| +([\w.]+)$", done.stderr, re.M)
    errors = re.sub(r"^import time:.*\n", "", done.stderr, flags=re.M)
    return done.returncode, done.stdout, errors, {name.split(".")[0] for name in imports}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which the whole chain has run once."""
    folder = tmp_path_factory.mktemp("끝까지 가기")
    lay_out(folder)
    code, out, errors, _ = call(folder, "pipeline")
    assert code == 0, errors
    return folder, out


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
    assert errors == "stopped by SIGTERM; nothing half-done was published\n"
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
            while "%" not in told:
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
        "stopped by SIGTERM; nothing half-done was published\n"
    )


# ------------------------------------------------------------------------------------- bad input

NEW = "run=new"
BAD = [
    (
        "a missing data file",
        ["data.prompts.path=no.jsonl"],
        3,
        r"data\.prompts\.path=no\.jsonl: no",
    ),
    (
        "a typo in a setting",
        ["ppo.kl_ceof=1"],
        2,
        r"command line: ppo\.kl_ceof: unknown key; did you",
    ),
    ("a row without an answer", ["data.instructions.path=bad.jsonl"], 3, r"bad\.jsonl:2: response"),
    ("an empty file", ["data.preferences.path=empty.jsonl"], 3, r"empty\.jsonl: no rows"),
    ("an empty model folder", ["model.path=nothing"], 2, r"model\.path=nothing: no such folder"),
    ("a bad run name", ["run=a/b"], 2, r"run=a/b: a run name"),
]


@pytest.mark.parametrize(("items", "code", "told"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_input_is_one_line_at_once_and_publishes_nothing(finished, items, code, told):
    folder, _ = finished
    (folder / "bad.jsonl").write_text('{"prompt": "a", "response": "b"}\n{"prompt": "a"}\n')
    (folder / "empty.jsonl").write_text("")
    got, _, errors, imported = call(folder, "pipeline", NEW, *items)
    assert got == code
    assert re.match(rf"error: {told}", errors), errors
    assert errors.count("\n") == 1
    assert not imported & HEAVY
    assert not list(folder.glob("runs/new/*/manifest.json"))


def test_a_prompt_that_the_template_refuses_is_told_before_sft(tmp_path):
    """As a system message to Gemma: prompts are read by PPO, after an hour of SFT and reward."""
    lay_out(tmp_path)
    template = tmp_path / "base" / "chat_template.jinja"
    refusal = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    template.write_text(refusal + template.read_text())
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": "Hello"}, {"prompt": system}])
    code, _, errors, _ = call(tmp_path, "pipeline")
    assert code == 3
    assert errors.strip().startswith("error: prompts.jsonl:2: the chat template of 'base' refuses")
    assert "no system" in errors and len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "runs" / "r" / "sft").exists()


def test_a_model_that_a_later_stage_could_not_use_is_told_before_sft(tmp_path):
    lay_out(tmp_path)
    code, _, errors, _ = call(tmp_path, "pipeline", "dpo.max_length=300")
    assert code == 2
    told = "error: dpo.max_length=300 is more than the 256 positions of 'base'; set dpo.max_length"
    assert errors.strip() == f"{told}=256"
    assert not (tmp_path / "runs" / "r" / "sft").exists()


def test_two_tokenizers_that_differ_are_refused(finished):
    folder, _ = finished
    path = folder / "runs" / "r" / "reward" / "manifest.json"
    text, manifest = path.read_text(), load_manifest(path.parent)
    other = manifest.model_copy(update={"tokenizer_hash": "other"})
    path.write_text(dump_manifest(other))
    code, _, errors, imported = call(folder, "rlhf", "method=ppo")
    path.write_text(text)
    assert code == 2
    assert errors.startswith("error: tokenizer of reward (runs/r/reward) differs from that of sft")
    assert errors.count("\n") == 1
    assert not imported & HEAVY


def test_a_run_directory_in_use_is_refused(finished):
    folder, _ = finished
    with lock(folder / "runs" / "r"):
        code, _, errors, _ = call(folder, "sft")
    assert code == 2
    assert errors == (
        f"error: runs/r: in use by process {os.getpid()}; wait for it, or give another run=NAME\n"
    )
