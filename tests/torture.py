"""Kill -9 every stage at random moments, run it again, compare with the run that was left alone.

    python -m tests.torture [kills=50] [seed=0] [stages=sft,reward,dpo,kto,ppo,rloo,grpo,evaluate]

Each stage is killed so often with all weights, and as often with LoRA. What is done to it in turn:

    step     SIGKILL some way into a step
    saving   SIGKILL at a file operation among those of the checkpoints
    file     SIGKILL at any file operation in the run directory, publishing included
    signal   SIGTERM or SIGINT some way into a step: it must save, and exit with 143 or 130
    fault    a file operation fails once, the disk being full: it must exit with 75, or carry on

One process imports the libraries and trains nothing; every attempt is a fork of it. The end counts
as the same if every published weight is, to the bit, and every row of metrics.jsonl.
"""

from __future__ import annotations

import gc
import itertools
import os
import random
import re
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stages.pipeline import preload
from tests.torture_range import EVERY, STAGES, Case, Range, cases

KILLING = ("step", "saving", "file")
KINDS = (*KILLING, "signal", "fault")


@dataclass
class Tally:
    """What came of all the attempts at one stage."""

    cases: int = 0
    same: int = 0
    killed: int = 0
    """Attempts that ended by SIGKILL; some cases are ended twice before they are let go on."""
    ended: int = 0
    """Attempts that ended in another way before they were done."""
    lost: list[int] = field(default_factory=list)
    """Steps done again, by attempt that resumed or started anew."""
    resumed: int = 0
    left_over: int = 0
    seconds: float = 0.0
    """Of processor time, the last attempts."""
    whole: float = 0.0
    """The same, had each of them been undisturbed."""

    def line(self, name: str) -> str:
        again = 100 * self.seconds / self.whole if self.whole else 0
        lost = max(self.lost, default=0)
        return (
            f"{name:<16}{self.cases:>6}{self.killed:>8}{self.ended:>7}{self.same:>11}{self.resumed:>9}"
            f"{self.left_over:>10}{lost:>10}{again:>9.0f} %"
        )


HEADER = (
    f"{'stage':<16}{'cases':>6}{'killed':>8}{'ended':>7}{'identical':>11}{'resumed':>9}{'leftovers':>10}"
    f"{'lost':>10}{'again':>11}"
)
LEGEND = (
    f"lost: most steps done twice, saved every {EVERY} (evaluate: policies); again: processor time "
    "of the last attempt, of an undisturbed one"
)


def main(argv: list[str]) -> int:
    given = dict(item.split("=") for item in argv)
    kills, seed = int(given.get("kills", 50)), int(given.get("seed", 0))
    stages = given["stages"].split(",") if given.get("stages") else STAGES
    preload(("sft", "reward", "dpo", "kto", "rloo", "grpo"))
    sys.modules["transformers"].logging.disable_progress_bar()
    gc.collect()
    gc.freeze()  # what is loaded stays: no fork looks through it again
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{kills} kills of each stage, seed {seed}, {threads} thread(s)", flush=True)
    tallies: dict[str, Tally] = defaultdict(Tally)
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        range_ = Range(Path(folder))
        for first, (stage, kind) in enumerate(itertools.product(stages, ("full", "lora"))):
            chance = random.Random(f"{seed} {stage} {kind}")
            variants = itertools.cycle(cases(stage, kind))
            tally, ways = tallies[f"{stage} {kind}"], itertools.cycle(KINDS)
            for way in itertools.islice(ways, first % len(KILLING), None):  # a few are of all
                attempt(range_, next(variants), way, chance, tally)
                if tally.killed >= kills:
                    break
    print(HEADER, *(tally.line(name) for name, tally in tallies.items()), LEGEND, sep="\n")
    same, all_ = (sum(getattr(t, what) for t in tallies.values()) for what in ("same", "cases"))
    killed, ended = (
        sum(getattr(t, what) for t in tallies.values()) for what in ("killed", "ended")
    )
    print(f"{same} of {all_} bit-identical; killed {killed} times, ended {ended}, seed {seed}")
    return 0 if same == all_ else 1


NUMBERS: Iterator[int] = itertools.count(1)


def attempt(range_: Range, case: Case, kind: str, chance: random.Random, tally: Tally) -> None:
    """Run, end, run again, perhaps end again …; and tell whether the result is the same."""
    expected, name = range_.undisturbed(case), f"{case.stage}-{next(NUMBERS)}"
    told, faults = [], []
    for _ in range(chance.choice((1, 1, 2))):
        words, code = end_once(range_, case, kind, name, chance, faults)
        told.append(words)
        tally.killed += code == -signal.SIGKILL
        tally.ended += code not in (0, -signal.SIGKILL)
    done = range_.steps(name, case.stage)
    code, seconds = range_.wait(range_.start(case, name))
    log = range_.log(name)
    found = range_.result(name, case) if code == 0 else None
    left = range_.left_over(name, killed=kind in KILLING)
    at = resumed_at(case.stage, log)
    if code == 0 and "up to date" not in log:
        tally.lost.append(max(0, done - at))
        if max(0, done - at) > (0 if case.stage == "evaluate" else EVERY):
            faults.append(f"lost {done - at} steps")
        if kind == "signal" and done > at:
            faults.append(f"stopped at {done} by a signal, resumed at {at}")
    same = found is not None and found.same_as(expected) and not left and not faults
    tally.cases, tally.same = tally.cases + 1, tally.same + same
    tally.resumed, tally.left_over = tally.resumed + bool(at), tally.left_over + len(left)
    tally.seconds, tally.whole = tally.seconds + seconds, tally.whole + expected.seconds
    went_on = f"goes on at {at}" if at else "up to date" if "up to date" in log else "starts anew"
    print(
        f"{case.stage:<9}{case.name:<27} {kind:<7}{', '.join(told)}; {went_on}: "
        f"{'bit-identical' if same else 'DIFFERS'}",
        flush=True,
    )
    if not same:
        print(f"exit code {code}; left over: {left}; {faults}", log, sep="\n")


def end_once(
    range_: Range, case: Case, kind: str, name: str, chance: random.Random, faults: list[str]
) -> tuple[str, int]:
    """Start the stage and see it end; one that was done before its moment came is repeated.

    Returns:
        What was done to it, in words, and its exit code.
    """
    expected = range_.undisturbed(case)
    while True:
        wanted = {-signal.SIGKILL}
        if kind in ("step", "signal"):
            row = chance.randint(0, expected.steps - 1)
            rest = chance.uniform(0, expected.wall / expected.steps)
            number = signal.SIGKILL if kind == "step" else chance.choice((15, 2))
            wanted = {-9} if kind == "step" else {128 + number}
            child = range_.start(case, name)
            range_.end_after(child, name, case.stage, row, rest, number)
            told = f"{rest:.2f} s after row {row}"
        else:
            where = "saving" if kind == "saving" else "file"
            at = chance.randint(1, expected.operations[where])
            child = range_.start(case, name, at=(where, at), fault=kind == "fault")
            told = f"at operation {at}"
            wanted |= {75, 0} if kind == "fault" else set()
        code, _ = range_.wait(child)
        log = range_.log(name)
        if code in wanted - {0}:
            if code == 75 and len(re.findall("^error: ", log, re.MULTILINE)) != 1:
                faults.append(log)
            return told, code
        if code != 0:
            faults.append(f"exit code {code}: {log}")
            return told, code
        if "up to date" in log or kind == "fault":
            return f"{told}, which came after all or did no harm", code
        range_.put_aside(name)


def resumed_at(stage: str, log: str) -> int:
    """The step at which a stage went on, 0 if it started anew; of an evaluation the policies."""
    if stage == "evaluate":
        return len(re.findall("answers of (?!best).*: kept from before", log))
    found = re.search(r"resumes at (?:step )?(\d+)", log)
    return int(found[1]) if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
