"""From the iterations of the children to medians, ratios and the printed table."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from tests.benchmarks.floors import PHASES, phase_flops
from tests.benchmarks.jobs import Job
from tests.benchmarks.workload import Shape

Iteration = dict[str, Any]
ROWS = (*PHASES, "rest", "whole")
MIB = 2**20


def summarise(
    shape: Shape, iterations: Sequence[Iteration], job: Job, *, rate: float
) -> dict[str, Any]:
    """Medians of seconds by phase; floors at `rate`; response tokens per second of wall."""
    tokens = [sum(response for _, response in one["lengths"]) for one in iterations]
    work: dict[str, Any] = {"epochs": job.epochs, "rank": job.rank, "own_critic": job.own_critic}
    flops = [phase_flops(shape, one["lengths"], **work) for one in iterations]
    floor = {phase: median(f[phase] for f in flops) / rate for phase in PHASES}
    floor["whole"] = median(sum(f.values()) for f in flops) / rate
    return {
        "cpu": {row: median(one["cpu"].get(row, 0.0) for one in iterations) for row in ROWS},
        "wall": {row: median(one["wall"].get(row, 0.0) for one in iterations) for row in ROWS},
        "floor": floor,
        "tokens": median(tokens),
        "tokens_per_second": median(
            t / one["wall"]["whole"] for t, one in zip(tokens, iterations, strict=True)
        ),
        "peak": max(one["peak"] for one in iterations),
        "iterations": len(iterations),
    }


def ratios(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, float]:
    """How many times faster ours is (above 1: faster), and its share of their memory.

    `per_token` sets aside that the two sampled different numbers of tokens.
    """
    faster = {kind: theirs[kind]["whole"] / ours[kind]["whole"] for kind in ("cpu", "wall")}
    return {
        **faster,
        "cpu_per_token": faster["cpu"] * ours["tokens"] / theirs["tokens"],
        "memory": ours["peak"] / theirs["peak"],
    }


def phase_table(results: dict[str, dict[str, Any]]) -> str:
    """One block of columns per trainer: seconds of an iteration, and how far above the floor."""
    names = list(results)
    lines = ["".ljust(16) + "".join(name.center(27) for name in names)]
    lines += ["".ljust(16) + f"{'cpu s':>9}{'wall s':>9}{'×floor':>9}" * len(names)]
    for row in ROWS:
        cells = row.ljust(16)
        for name in names:
            cpu, wall = results[name]["cpu"][row], results[name]["wall"][row]
            floor = results[name]["floor"].get(row, 0.0)
            over = f"{cpu / floor:9.1f}" if floor else f"{'':9}"
            cells += f"{cpu:9.3f}{wall:9.3f}{over}"
        lines.append(cells)
    for label, value in (
        ("response tokens", lambda r: f"{r['tokens']:.0f}"),
        ("  per second", lambda r: f"{r['tokens_per_second']:.0f}"),
        ("peak memory MiB", lambda r: f"{r['peak'] / MIB:.0f}"),
    ):
        lines.append(
            label.ljust(16) + "".join(value(results[n]).rjust(18).ljust(27) for n in names)
        )
    return "\n".join(lines)


def device_table(result: dict[str, Any]) -> str:
    """One trainer on a device, whose floors are of wall time: MFU is their share of the seconds.

    Response tokens per second of each phase.
    """
    lines = ["".ljust(16) + f"{'wall s':>10}{'MFU %':>10}{'tokens/s':>12}"]
    for row in ROWS:
        wall, floor = result["wall"][row], result["floor"].get(row, 0.0)
        used = f"{100 * floor / wall:10.1f}" if floor and wall else f"{'':10}"
        speed = f"{result['tokens'] / wall:12.0f}" if wall else f"{'':12}"
        lines.append(row.ljust(16) + f"{wall:10.3f}{used}{speed}")
    return "\n".join(lines)


def ratio_line(name: str, ratio: dict[str, float]) -> str:
    return (
        f"{name}: {ratio['cpu']:.2f}× faster by CPU time, {ratio['wall']:.2f}× by wall, "
        f"{ratio['cpu_per_token']:.2f}× by CPU time per response token; "
        f"{ratio['memory']:.2f}× the memory"
    )
