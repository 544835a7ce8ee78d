"""What `python -m tests.torture` runs: a small world, each stage in a fork, and what came of it."""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.runs.hashing import file_hash
from tests.stages.world import World, rows

LORA = {"r": 4, "alpha": 8, "dropout": 0.1}
STEPS, EVERY = 6, 2
STAGES = ("sft", "reward", "dpo", "kto", "ppo", "rloo", "grpo", "evaluate")
PARENTS = {
    "sft": (),
    "reward": ("sft",),
    "dpo": ("sft",),
    "kto": ("sft",),
    "evaluate": ("sft", "reward", "dpo"),
}
TIMED = ("time", "step_time")
"""Endings of the metrics that are no result."""
GROUPED = {"trainer.train_sampling_strategy": "group_by_length"}
PPO = {
    "full": {
        "separate, fixed KL": {},
        "separate, adaptive KL": {"kl_target": 0.3, "kl_horizon": 64},
    },
    "lora": {
        "shared, adaptive KL": {"kl_target": 0.3, "kl_horizon": 64},
        "separate, fixed KL": {"layout": "separate"},
    },
}


@dataclass(frozen=True)
class Case:
    """A stage with settings of its own."""

    stage: str
    kind: str
    variant: str
    settings: tuple[str, ...]
    """Items `key=value`."""

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.variant}" if self.variant else self.kind


def cases(stage: str, kind: str) -> list[Case]:
    """The ways in which a stage is run: each saves something that another has not."""
    variants: dict[str, dict[str, Any]] = {"": {}}
    if stage == "ppo":
        variants = PPO[kind]
    elif stage == "sft":
        variants = {"grouped by length": GROUPED, "packed": {"trainer.packing": True}}
        variants = variants if kind == "lora" else {"": {}, "grouped by length": GROUPED}
    elif stage == "dpo" and kind == "full":
        variants["reference first"] = {"trainer.precompute_ref_log_probs": True}
    owner = {"rloo": "ppo.lora", "grpo": "ppo.lora", "evaluate": None}.get(stage, "lora")
    adapter = {owner: LORA if stage != "ppo" else {**LORA, "dropout": 0.0}}
    added = adapter if kind == "lora" and owner else {}
    return [
        Case(
            stage, kind, name, tuple(f"{k}={json.dumps(v)}" for k, v in (settings | added).items())
        )
        for name, settings in variants.items()
    ]


@dataclass(frozen=True)
class Result:
    """What a stage published, and the file operations that it took: of checkpoints, in all."""

    files: dict[str, str]
    rows: list[dict[str, Any]]
    operations: dict[str, int]
    seconds: float
    """Of processor time."""
    wall: float

    @property
    def steps(self) -> int:
        return len(self.rows)

    def same_as(self, other: Result) -> bool:
        return (self.files, self.rows) == (other.files, other.rows)


class Range:
    """A world with everything that the stages start from, and the results of undisturbed runs."""

    def __init__(self, folder: Path) -> None:
        self.world, self.plain = World(folder), dict[Case, Result]()
        self.runs = folder / "runs"
        recipe = self.world.recipe
        for name in ("sft", "reward", "dpo", "kto"):
            recipe[name] |= {
                "checkpoint_every": EVERY,
                "trainer": {
                    "per_device_train_batch_size": 2,
                    "gradient_accumulation_steps": 2,
                    "max_steps": STEPS,  # more than an epoch: twenty rows, four to a step
                    "learning_rate": 1e-2,
                    "lr_scheduler_type": "cosine",
                    "logging_steps": 1,
                },
            }
        for name in ("rloo", "grpo"):
            recipe[name] = {"checkpoint_every": EVERY, "trainer": {"logging_steps": 1}}
            recipe[name]["trainer"]["max_steps"] = STEPS
        checks = [{"kind": "contains_any", "values": ["a", "e"], "core": True}]
        prompts = [{"prompt": row["prompt"], "checks": checks} for row in rows()]
        recipe["data"]["prompts"] = self.world.write("prompts.jsonl", prompts)
        recipe["data"]["evaluation"] = self.world.write("evaluation.jsonl", prompts[:6])
        recipe["ppo"] |= {
            "iterations": STEPS,
            "rollout_batch_size": 8,
            "epochs": 2,
            "minibatches": 2,
            "learning_rate": 1e-3,
            "value_learning_rate": 1e-3,
            "critic_warmup": 1,
            "checkpoint_every": EVERY,
            "probe_prompts": 4,
            "probe_every": 2,
        }
        recipe["evaluate"] = {
            "policies": ["base", "sft", "dpo", "best_of_n"],
            "best_of_n": 2,
            "max_new_tokens": 6,
            "bootstrap": 50,
        }

    def undisturbed(self, case: Case) -> Result:
        if case not in self.plain:
            for parent in PARENTS.get(case.stage, ("sft", "reward")):
                self.undisturbed(cases(parent, case.kind)[0])
            name, start = self.whole(case), time.monotonic()
            code, seconds = self.wait(self.start(case, name))
            assert code == 0, self.log(name)
            wall = time.monotonic() - start
            self.plain[case] = self.result(name, case, seconds=seconds, wall=wall)
            least = 3 if case.stage == "evaluate" else STEPS
            assert self.plain[case].steps == least, self.plain[case].rows
        return self.plain[case]

    def whole(self, case: Case) -> str:
        return "-".join(re.findall(r"\w+", f"whole {case.stage} {case.name}"))

    def start(
        self, case: Case, name: str, *, at: tuple[str, int] | None = None, fault: bool = False
    ) -> int:
        """Fork a child that runs a stage; return its process id.

        Args:
            at: dies just before this file operation.
            fault: finds the disk full there instead.
        """
        self.runs.mkdir(exist_ok=True)
        items = [f"run={name}"]
        for parent in PARENTS.get(case.stage, ("sft", "reward")):
            folder = self.runs / self.whole(cases(parent, case.kind)[0]) / parent
            items.append(f"parents.{parent}={folder}")
        items += case.settings
        sys.stdout.flush()
        child = os.fork()
        if child:
            return child
        log = os.open(self.runs / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = 1
        try:
            counted = count_operations(name, at, fault=fault)
            code = self.world.run(case.stage, *items)
            (self.runs / f"{name}.operations").write_text(json.dumps(counted()))
        finally:  # a traceback is in the log, and the code is no other's
            sys.stdout.flush()
            os._exit(code)

    def wait(self, child: int) -> tuple[int, float]:
        """Exit code and processor time."""
        _, status, used = os.wait4(child, 0)
        return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime

    def end_after(
        self, child: int, name: str, stage: str, row: int, rest: float, number: int
    ) -> None:
        """Send a signal some time after a running stage has logged a row, if it still runs."""
        while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            begun = any((self.runs / name).glob(f".tmp-{stage}-*"))
            if begun and self.steps(name, stage) >= row:
                time.sleep(rest)
                os.kill(child, number)  # it may have ended: it is not waited for yet
                return
            time.sleep(0.005)

    def steps(self, name: str, stage: str) -> int:
        """Steps that a running or a killed stage has logged."""
        curves = [
            *(self.runs / name).glob(f".tmp-{stage}-*/metrics.jsonl"),
            self.runs / name / "failed" / f"{stage}.metrics.jsonl",
        ]
        return max((c.read_bytes().count(b"\n") for c in curves if c.is_file()), default=0)

    def put_aside(self, name: str) -> None:
        run_dir = self.runs / name
        run_dir.rename(run_dir.with_name(f"{name}-{next(COUNT)}-finished"))

    def left_over(self, name: str, *, killed: bool) -> list[str]:
        """What should not be there once a stage is published; a killed one tells no failure."""
        names = [path.name for path in (self.runs / name).iterdir()]
        hidden = (".tmp-", ".old-", ".checkpoints", "quarantine", *(("failed",) if killed else ()))
        return [found for found in names if found.startswith(hidden)]

    def log(self, name: str) -> str:
        return (self.runs / f"{name}.log").read_text()

    def result(self, name: str, case: Case, *, seconds: float = 0.0, wall: float = 0.0) -> Result:
        out = self.runs / name / case.stage
        files = {
            str(file.relative_to(out)): file_hash(file)
            for file in [*sorted(out.rglob("*.safetensors")), out / "samples.jsonl"]
            if file.is_file()
        }
        if (summary := out / "summary.json").is_file():
            files["summary.json"] = summary.read_text().replace(f'"{name}"', '"NAME"')
        curve = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        kept = [{k: v for k, v in row.items() if not k.endswith(TIMED)} for row in curve]
        operations = json.loads((self.runs / f"{name}.operations").read_text())
        return Result(files, kept, operations, seconds, wall)


COUNT = itertools.count()


def count_operations(
    name: str, at: tuple[str, int] | None, *, fault: bool
) -> Callable[[], dict[str, int]]:
    """Count the file operations of this process; die just before one of them, or let it fail."""
    places = {"saving": f"{name}/.checkpoints/", "file": f"runs/{name}/"}
    counts = dict.fromkeys(places, 0)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        path = arguments[0] if arguments else None
        if not isinstance(path, str | os.PathLike):
            return
        for kind, place in places.items():
            if place in os.fspath(path):
                counts[kind] += 1
                if at == (kind, counts[kind]):
                    if fault:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
                    os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return lambda: counts
