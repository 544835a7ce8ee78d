"""What only a GPU can tell: `make gpu-check`. Needs no network.

On CUDA: a random Llama of 0.5 B parameters in bfloat16, ours in both layouts and TRL's if its
folder is there, with tokens per second, MFU by phase and peak memory against a written plan; the
invariants of PPO's first step; the gap between sampler and trainer; the embedded pipeline with
model.device=cuda. Without CUDA it says what was not measured and exits 0; `--rehearse` takes a
toy model along the same path on the CPU, the pipeline apart.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from typing import Any

import torch

from align.config import LoraSection
from tests.benchmarks import table
from tests.benchmarks.channel import BUILD, ROOT, ChildStopped
from tests.benchmarks.floors import device_rate
from tests.benchmarks.jobs import MICRO, OUR_DEFAULT, TRL, TRL_FOLDER, Job, jobs
from tests.benchmarks.memory_plan import shared_plan
from tests.benchmarks.workload import Shape

HALF_BILLION = Shape(
    hidden=896, layers=24, heads=14, intermediate=4864, vocab=151_936, dtype="bfloat16",
    prompts=128, shortest=64, longest=256, new_tokens=256,
)  # fmt: skip
TOY = Shape(hidden=64, layers=2, intermediate=128, vocab=512, prompts=16, new_tokens=16)
STEP_ZERO = {
    "ppo/kl/token": {"float32": 1e-7, "bfloat16": 1e-7},
    "ppo/start/clip_fraction": {"float32": 0.0, "bfloat16": 0.0},
    "ppo/start/ratio_gap_max": {"float32": 1e-4, "bfloat16": 0.15},
}
"""Largest absolute value of a metric in the first iteration: before an update the policy is the
reference, and old and new log-probabilities differ by the rounding of other micro-batches only."""
NOT_MEASURED = (
    "no CUDA device, so nothing was measured. Open until a GPU is at hand:",
    "  seconds, tokens/s, MFU by phase and peak memory of a 0.5 B Llama in bfloat16",
    "  sampler gap and step-0 invariants in bfloat16 on CUDA kernels",
    "  the embedded pipeline with model.device=cuda",
    "`python -m tests.benchmarks.gpu_check --rehearse` takes a toy model along the same path.",
)


def measure(job: Job, shape: Shape, *, repeats: int, rate: float) -> dict[str, Any]:
    """One trainer by itself: medians, and the metrics of its first iteration."""
    child = job.start()
    iterations = [child.iterate() for _ in range(repeats + 1)]
    child.close()
    result = table.summarise(shape, iterations[1:], job, rate=rate)
    return result | {"first": iterations[0]["metrics"]}


def invariants(first: dict[str, float], dtype: str) -> list[str]:
    """What of the first iteration is not as it must be."""
    return [
        f"{name} = {first[name]:.2e}, expected at most {bounds[dtype]:g}"
        for name, bounds in STEP_ZERO.items()
        if not abs(first[name]) <= bounds[dtype]
    ]


def show(job: Job, shape: Shape, result: dict[str, Any]) -> list[str]:
    """Print what was measured; return what is wrong."""
    print(f"\n{job.name}\n{table.device_table(result)}")
    print(f"peak memory {result['peak'] / table.MIB:.0f} MiB")
    if job.name == OUR_DEFAULT:
        plan = shared_plan(shape, rank=LoraSection().r, micro=MICRO)
        print("plan MiB:", ", ".join(f"{k} {v / table.MIB:.0f}" for k, v in plan.items()))
    first = result["first"]
    if not first:
        return []
    gap, most = first["ppo/sampler/gap_mean"], first["ppo/sampler/gap_max"]
    print(f"sampler gap {gap:.2e} nats mean, {most:.2e} largest")
    return [f"{job.name}: {line}" for line in invariants(first, shape.dtype)]


def pipeline(device: str, run: str) -> float | None:
    """Seconds of the embedded pipeline on the device; None when it failed."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "stages.pipeline", "stages/recipes/tiny.yaml"]
    settings = [f"run={run}", f"model.device={device}", "tracking.wandb=off"]
    done = subprocess.run([*command, *settings], cwd=ROOT, check=False)
    return None if done.returncode else time.perf_counter() - start


def check(device: str, shape: Shape, arguments: argparse.Namespace) -> list[str]:
    rate = device_rate(
        torch.device(device), getattr(torch, shape.dtype), size=512 if arguments.rehearse else 8192
    )
    print(f"{shape.title()}\nmatrix products of {shape.dtype}: {rate / 1e12:.2f} TFLOP/s")
    wrong: list[str] = []
    document: dict[str, Any] = {"shape": asdict(shape), "flops_per_second": rate}
    for job in jobs(shape, threads=arguments.threads, device=device):
        if job.name == TRL and not TRL_FOLDER.exists():
            print(f"\n{TRL}: not measured, {TRL_FOLDER} is not there (make bench-ppo fetches it)")
            continue
        try:
            result = measure(job, shape, repeats=arguments.repeats, rate=rate)
        except ChildStopped as stopped:
            print(f"\n{job.name}: stopped: {stopped.last}")
            wrong += [] if job.name == TRL else [f"{job.name} stopped: {stopped.last}"]
            continue
        wrong += show(job, shape, result)
        document[job.name] = result
    path = BUILD / "gpu-check.json"
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rehearse", action="store_true", help="a toy model on the CPU")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.rehearse:
        wrong = check("cpu", TOY, arguments)
    elif not torch.cuda.is_available():
        print("gpu-check:", "\n".join(NOT_MEASURED))
        return 0
    else:
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n\nfixed length")
        wrong = check("cuda", HALF_BILLION, arguments)
        print("\nragged")
        wrong += check("cuda", replace(HALF_BILLION, mean_length=96.0), arguments)
        seconds = pipeline("cuda", "gpu-check")
        wrong += ["the embedded pipeline failed"] if seconds is None else []
        print("\nembedded pipeline on cuda:", "failed" if seconds is None else f"{seconds:.0f} s")
    print("\n".join(f"WRONG {line}" for line in wrong) or "\nall invariants hold")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
