"""Kill -9 a PPO stage at random moments, run it again, compare with the run that was left alone.

    python -m tests.torture [kills=20] [seed=0]

A moment is some way into an iteration (`step`), a file operation among those of the checkpoints
(`saving`), or any file operation in the run directory, publishing included (`file`). One process
imports the libraries and trains nothing; every attempt is a fork of it, and dies by SIGKILL. The
run counts as the same if every published weight is, to the bit, and every row of metrics.jsonl.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.runs.hashing import file_hash
from stages.pipeline import preload
from tests.stages.world import World, rows

LORA = {"r": 4, "alpha": 8}
STEPS = 6
VARIANTS: dict[str, dict[str, Any]] = {
    "shared LoRA, adaptive KL": {"lora": LORA, "kl_target": 0.3, "kl_horizon": 64},
    "separate full, fixed KL": {},
    "separate LoRA, fixed KL": {"lora": LORA, "layout": "separate"},
    "separate full, adaptive KL": {"kl_target": 0.3, "kl_horizon": 64},
}
KINDS = ("step", "saving", "file")


@dataclass(frozen=True)
class Result:
    """What a stage published, and the file operations that it took: of checkpoints, in all."""

    weights: dict[str, str]
    rows: list[dict[str, Any]]
    operations: dict[str, int]
    seconds: float


def main(argv: list[str]) -> int:
    given = dict(item.split("=") for item in argv)
    kills, seed = int(given.get("kills", 20)), int(given.get("seed", 0))
    preload(("sft", "reward"))
    sys.modules["transformers"].logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        range_ = Range(Path(folder), random.Random(seed))
        print(f"{kills} kills, seed {seed}, {os.environ.get('OMP_NUM_THREADS', 'all')} thread(s)")
        same = sum(range_.kill(number) for number in range(1, kills + 1))
        print(f"{same} of {kills} bit-identical; {range_.killed} kills, seed {seed}")
    return 0 if same == kills else 1


class Range:
    """A world with everything that PPO starts from, and the results of undisturbed runs in it."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.world, self.chance, self.killed = World(folder), chance, 0
        self.world.recipe["ppo"] |= {
            "iterations": STEPS,
            "rollout_batch_size": 8,
            "epochs": 2,
            "minibatches": 2,
            "learning_rate": 1e-3,
            "value_learning_rate": 1e-3,
            "critic_warmup": 1,
            "checkpoint_every": 2,
            "probe_prompts": 4,
            "probe_every": 2,
        }
        checks = [{"kind": "contains_any", "values": ["a", "e"], "core": True}]
        prompts = [{"prompt": row["prompt"], "checks": checks} for row in rows()]
        self.world.recipe["data"]["prompts"] = self.world.write("prompts.jsonl", prompts)
        self.plain: dict[str, Result] = {}
        for name, lora in (("full", None), ("lora", LORA)):
            self.world.recipe["reward"]["lora"] = lora
            assert self.wait(self.start("sft", name)) == 0, self.log(name)
            assert self.wait(self.start("reward", name)) == 0, self.log(name)

    def undisturbed(self, variant: str) -> Result:
        if variant not in self.plain:
            name, start = f"plain-{len(self.plain)}", time.monotonic()
            code = self.wait(self.start("ppo", name, variant))
            assert code == 0, self.log(name)
            self.plain[variant] = self.result(name, time.monotonic() - start)
            assert sum("ppo/probe/gold" in row for row in self.plain[variant].rows) > 1
        return self.plain[variant]

    def kill(self, number: int) -> bool:
        """Run, kill, run again, perhaps kill again …; tell whether the end is the same."""
        variant = list(VARIANTS)[number % len(VARIANTS)]
        kind = KINDS[number % len(KINDS)]
        expected, name, told = self.undisturbed(variant), f"killed-{number}", []
        for _ in range(self.chance.choice((1, 1, 2))):
            told.append(self.kill_once(kind, name, variant, expected))
        code = self.wait(self.start("ppo", name, variant))
        found = self.result(name, 0.0) if code == 0 else None
        went_on = re.findall(r"resumes at \d+/\d+|up to date", self.log(name))
        left = [p.name for p in (self.world.folder / "runs" / name).iterdir()]
        same = (
            found is not None
            and (found.weights, found.rows) == (expected.weights, expected.rows)
            and not {"quarantine", "failed"} & set(left)
            and not [n for n in left if n.startswith((".tmp-", ".old-"))]
        )
        print(
            f"{number:>3}  {variant:<27} {kind:<7}{', '.join(told)}; "
            f"{(went_on or ['starts anew'])[0]}: {'bit-identical' if same else 'DIFFERS'}",
            flush=True,
        )
        if not same:
            print(self.log(name))
        return same

    def kill_once(self, kind: str, name: str, variant: str, expected: Result) -> str:
        """Start the stage and see it die; one that was done before its moment came is repeated."""
        while True:
            if kind == "step":
                row = self.chance.randint(0, STEPS)
                rest = self.chance.uniform(0, expected.seconds / STEPS)
                child = self.start("ppo", name, variant)
                self.reached(child, name, row)
                time.sleep(rest)
                os.kill(child, signal.SIGKILL)
                told = f"{rest:.2f} s after row {row}"
            else:
                at = self.chance.randint(1, expected.operations[kind])
                child = self.start("ppo", name, variant, die_at=(kind, at))
                told = f"at operation {at}"
            if self.wait(child) == -signal.SIGKILL:
                self.killed += 1
                return told
            if "up to date" in self.log(name):
                return "which came after publishing"
            assert "done in" in self.log(name), self.log(name)
            self.put_aside(name)

    def reached(self, child: int, name: str, row: int) -> None:
        """Wait until a running stage has logged a row, or has ended."""
        run_dir = self.world.folder / "runs" / name
        while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            curves = list(run_dir.glob(".tmp-ppo-*/metrics.jsonl"))
            if curves and curves[0].read_bytes().count(b"\n") >= row:
                return
            time.sleep(0.005)

    def put_aside(self, name: str) -> None:
        run_dir = self.world.folder / "runs" / name
        run_dir.rename(run_dir.with_name(f"{name}-{next(COUNT)}-finished"))

    def start(
        self, stage: str, name: str, variant: str = "", *, die_at: tuple[str, int] | None = None
    ) -> int:
        """Fork a child that runs a stage; return its process id."""
        runs = self.world.folder / "runs"
        runs.mkdir(exist_ok=True)
        items = [f"run={name}"]
        if stage == "ppo":
            settings = VARIANTS[variant]
            kind = "lora" if "lora" in settings else "full"
            items += [f"parents.{s}={runs / kind / s}" for s in ("sft", "reward")]
            items += [f"{key}={json.dumps(value)}" for key, value in settings.items()]
        sys.stdout.flush()
        child = os.fork()
        if child:
            return child
        log = os.open(runs / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        counted = count_operations(name, die_at)
        code = self.world.run(stage, *items)
        (runs / f"{name}.operations").write_text(json.dumps(counted()))
        sys.stdout.flush()
        os._exit(code)

    def wait(self, child: int) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def log(self, name: str) -> str:
        return (self.world.folder / "runs" / f"{name}.log").read_text()

    def result(self, name: str, seconds: float) -> Result:
        runs = self.world.folder / "runs"
        out = runs / name / "ppo"
        files = sorted(out.rglob("*.safetensors"))
        weights = {str(file.relative_to(out)): file_hash(file) for file in files}
        curve = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        for row in curve:
            del row["time"]
        operations = json.loads((runs / f"{name}.operations").read_text())
        return Result(weights, curve, operations, seconds)


COUNT = itertools.count()


def count_operations(name: str, die_at: tuple[str, int] | None) -> Callable[[], dict[str, int]]:
    """Count the file operations of this process, and die just before a given one."""
    places = {"saving": f"{name}/.checkpoints/", "file": f"runs/{name}/"}
    counts = dict.fromkeys(places, 0)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        path = arguments[0] if arguments else None
        if not isinstance(path, str | os.PathLike):
            return
        for kind, place in places.items():
            if place in os.fspath(path):
                counts[kind] += 1
                if die_at == (kind, counts[kind]):
                    os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return lambda: counts


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
