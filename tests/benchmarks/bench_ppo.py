"""Our PPO against that of TRL 1.12.0, the last release that has one: `make bench-ppo`.

    python -m tests.benchmarks.bench_ppo [--threads 2] [--repeats 5] [--cases fixed,…]

Each trainer runs in a process of its own on the same weights and prompts; the parent lets them take
one iteration in turn, so that a neighbour on the machine slows both. The first iteration of each
is not counted. Compared are medians, by CPU time of the process and by wall.

Both take the same arguments where both have them. `same work` is ours with four full models, four
epochs and micro-batches of 8, as TRL; `our default` is ours as PPOConfig ships, with LoRA;
`critic=head` is that with values from a head on the policy.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from typing import Any

import torch

from tests.benchmarks import floors, gold, table
from tests.benchmarks.channel import BUILD
from tests.benchmarks.jobs import TRL, fetch_trl, jobs
from tests.benchmarks.workload import Shape

FIRST = Shape()
SECOND = Shape(
    hidden=384, layers=4, heads=6, intermediate=1024, vocab=8192,
    prompts=16, shortest=32, longest=128, new_tokens=96,
)  # fmt: skip
SMOKE = Shape(hidden=64, layers=2, intermediate=128, vocab=512, prompts=16, new_tokens=16)
CASES = {"fixed": FIRST, "ragged": replace(FIRST, mean_length=24.0), "second": SECOND}
SHAPES = CASES | {"smoke": SMOKE}


def run_case(shape: Shape, arguments: argparse.Namespace) -> dict[str, Any]:
    listed = jobs(shape, threads=arguments.threads, rollout_forward=arguments.rollout_forward)
    children = {job.name: job.start() for job in listed}
    counted: dict[str, list[dict[str, Any]]] = {name: [] for name in children}
    rates = []
    for repeat in range(repeats(shape, arguments) + 1):
        rates.append(floors.matmul_rate())
        for name, child in children.items():
            iteration = child.iterate()
            if repeat:
                counted[name].append(iteration)
    for child in children.values():
        child.close()
    results = {
        job.name: table.summarise(shape, counted[job.name], job, rate=max(rates)) for job in listed
    }
    ours = {name: result for name, result in results.items() if name != TRL}
    return {
        "shape": asdict(shape),
        "flops_per_cpu_second": max(rates),
        "results": results,
        "ratios": {name: table.ratios(results[TRL], result) for name, result in ours.items()},
    }


def repeats(shape: Shape, arguments: argparse.Namespace) -> int:
    """Ragged, the tokens of one iteration vary by a seventh, so there are twice as many."""
    return arguments.repeats * (1 if arguments.quick or shape.mean_length is None else 2)


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
    parser.add_argument("--cases", default=",".join((*CASES, "gold")), help="of these, and smoke")
    parser.add_argument("--quick", action="store_true", help="half the prompts, once, two cases")
    parser.add_argument(
        "--rollout-forward", type=int, default=64, help="TRL's batch for sampling and measuring"
    )
    world = parser.add_argument_group("time to equal gold")
    world.add_argument("--run", default="runs/tiny", help="where sft and reward are published")
    world.add_argument("--recipe", default="stages/recipes/tiny.yaml")
    world.add_argument("--set", nargs="*", default=[], help="settings of ours, key=value")
    world.add_argument("--rates", type=float, nargs="*", default=gold.RATES, help="of TRL")
    world.add_argument("--iterations", type=int, default=20, help="of TRL; ours: the recipe's")
    world.add_argument("--every", type=int, default=1, help="iterations between two probes")
    world.add_argument("--samples", type=int, default=2, help="answers to each held-out prompt")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.repeats, arguments.cases = 1, "fixed,ragged"
    return arguments


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    fetch_trl()
    path = BUILD / "results.json"
    document: dict[str, Any] = {"threads": arguments.threads, "torch": torch.__version__}
    for name in arguments.cases.split(","):
        if name == "gold":
            document[name] = gold.run_gold(arguments)
            gold.show_gold(document[name])
        else:
            shape = SHAPES[name]
            if arguments.quick:
                shape = replace(shape, prompts=shape.prompts // 2)
            document[name] = run_case(shape, arguments)
            show(name, document[name])
        path.write_text(json.dumps(document, indent=1), encoding="utf-8")
    print(f"\n{path}")


if __name__ == "__main__":
    main()
