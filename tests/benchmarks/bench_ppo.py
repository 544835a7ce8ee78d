"""Our PPO against that of TRL 1.12.0, the last release that has one: `make bench-ppo`.

    python -m tests.benchmarks.bench_ppo [--threads 2] [--repeats 5] [--cases fixed,…]

Each trainer runs in a process of its own on the same weights and prompts; the parent lets them take
one iteration in turn, so that a neighbour on the machine slows both. The first iteration of each
is not counted. Compared are medians, by CPU time of the process and by wall.

Both take the same arguments where both have them. `same work` is ours with four full models, four
epochs and micro-batches of 8, as TRL; `our default` is ours as PPOConfig ships, with LoRA.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from align.config import LoraSection, PPOConfig
from tests.benchmarks import floors, table
from tests.benchmarks.channel import BUILD, Child
from tests.benchmarks.workload import Shape

TRL = BUILD.parent / "trl-1.12.0"
FIRST = Shape()
SECOND = Shape(
    hidden=384, layers=4, heads=6, intermediate=1024, vocab=8192,
    prompts=16, shortest=32, longest=128, new_tokens=96,
)  # fmt: skip
SMOKE = Shape(hidden=64, layers=2, intermediate=128, vocab=512, prompts=16, new_tokens=16)
CASES = {"fixed": FIRST, "ragged": replace(FIRST, mean_length=24.0), "second": SECOND}
LEARNING_RATE = 3e-6  # TRL's default
MICRO, EPOCHS = 8, 4
SAME_WORK: dict[str, Any] = {
    "epochs": EPOCHS,
    "micro_batch_size": MICRO,
    "learning_rate": LEARNING_RATE,
    "value_learning_rate": LEARNING_RATE,
    "lr_schedule": "constant",
    "value_clip_range": 0.2,
}
OUR_DEFAULT: dict[str, Any] = {"lora": LoraSection().model_dump(), "lr_schedule": "constant"}


def fetch_trl() -> Path:
    """TRL 1.12.0 in a folder outside the environment, without what it depends on."""
    if not TRL.exists():
        part = TRL.with_name(TRL.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command = [*pip, "--no-deps", "--target", str(part), "trl==1.12.0"]
        if subprocess.run(command, check=False).returncode:
            raise SystemExit("error: pip could not fetch trl==1.12.0; the comparison needs it")
        part.rename(TRL)
    return TRL


def start(shape: Shape, *, threads: int, rollout_forward: int) -> dict[str, Child]:
    """The three processes, models built."""
    job = {"shape": asdict(shape), "threads": threads, "seed": 0}
    trl_job = job | {
        "micro_batch_size": MICRO,
        "epochs": EPOCHS,
        "learning_rate": LEARNING_RATE,
        "rollout_forward": rollout_forward,
    }
    ours = "tests.benchmarks.child_ours"
    return {
        "TRL 1.12.0": Child("trl", "tests.benchmarks.child_trl", trl_job, path=fetch_trl()),
        "same work": Child("same-work", ours, job | {"config": SAME_WORK}),
        "our default": Child("our-default", ours, job | {"config": OUR_DEFAULT}),
    }


def work_of(name: str) -> dict[str, Any]:
    """What the floor of a trainer depends on."""
    if name == "our default":
        return {"epochs": PPOConfig().epochs, "rank": LoraSection().r}
    return {"epochs": EPOCHS, "rank": None}


def run_case(shape: Shape, arguments: argparse.Namespace) -> dict[str, Any]:
    children = start(shape, threads=arguments.threads, rollout_forward=arguments.rollout_forward)
    counted: dict[str, list[dict[str, Any]]] = {name: [] for name in children}
    rates = []
    for repeat in range(arguments.repeats + 1):
        rates.append(floors.matmul_rate())
        for name, child in children.items():
            iteration = child.iterate()
            if repeat:
                counted[name].append(iteration)
    for child in children.values():
        child.close()
    results = {
        name: table.summarise(shape, iterations, rate=max(rates), **work_of(name))
        for name, iterations in counted.items()
    }
    theirs = results["TRL 1.12.0"]
    ours = {name: result for name, result in results.items() if result is not theirs}
    return {
        "shape": asdict(shape),
        "flops_per_cpu_second": max(rates),
        "results": results,
        "ratios": {name: table.ratios(theirs, result) for name, result in ours.items()},
    }


def show(name: str, case: dict[str, Any]) -> None:
    shape = Shape(**case["shape"])
    print(f"\n{name}: {shape.title()}")
    print(f"floor at {case['flops_per_cpu_second'] / 1e9:.0f} GFLOP per CPU second\n")
    print(table.phase_table(case["results"]) + "\n")
    for setting, ratio in case["ratios"].items():
        print(table.ratio_line(setting, ratio), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="iterations counted, of each")
    parser.add_argument("--cases", default=",".join(CASES), help="of these, or smoke (seconds)")
    parser.add_argument("--quick", action="store_true", help="one repeat of the first two cases")
    parser.add_argument(
        "--rollout-forward", type=int, default=64, help="TRL's batch for sampling and measuring"
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.repeats, arguments.cases = 1, "fixed,ragged"
    return arguments


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    document: dict[str, Any] = {"threads": arguments.threads, "torch": torch.__version__}
    document["cases"] = {}
    for name in filter(None, arguments.cases.split(",")):
        case = run_case((CASES | {"smoke": SMOKE})[name], arguments)
        document["cases"][name] = case
        show(name, case)
        path = BUILD / "results.json"
        path.write_text(json.dumps(document, indent=1), encoding="utf-8")
    print(f"\n{BUILD / 'results.json'}")


if __name__ == "__main__":
    main()
