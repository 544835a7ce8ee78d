"""A PPO stage that is stopped and run again: what a person sees, and what is left in the end."""

from __future__ import annotations

import os
import resource
import signal
import sys

import pytest

from align.runs.tracking import Tracker, read_metrics
from tests.align.runs.test_mirror import Stand
from tests.stages.world import LORA, World, weights

STEPS = 4


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A world in which PPO has run once, undisturbed, as run `whole`."""
    world = World(tmp_path_factory.mktemp("resume"))
    world.recipe["reward"]["lora"] = LORA
    world.recipe["ppo"] |= {"iterations": STEPS, "learning_rate": 1e-2, "lora": LORA}
    assert world.run("sft") == world.run("reward") == 0
    assert world.run("ppo", "run=whole", *parents(world)) == 0
    return world


def parents(world):
    return [f"parents.{name}={world.out(name)}" for name in ("sft", "reward")]


@pytest.fixture
def attempt(world, tmp_path, monkeypatch, capsys):
    """Run PPO in a run directory of its own; return (exit code, stdout, stderr)."""

    def call(*items, signal_at=0, number=signal.SIGTERM):
        log = Tracker.log

        def logged(self, step, metrics, *, total=None):
            log(self, step, metrics, total=total)
            if step == signal_at:
                os.kill(os.getpid(), number)

        monkeypatch.setattr(Tracker, "log", logged)
        code = world.run("ppo", f"run={tmp_path.name}", *parents(world), *items)
        monkeypatch.setattr(Tracker, "log", log)
        return code, *capsys.readouterr()

    call.run_dir = world.folder / "runs" / tmp_path.name
    return call


def rows(world, run):
    found = read_metrics(world.folder / "runs" / run / "ppo" / "metrics.jsonl")
    return [{key: value for key, value in row.items() if key != "time"} for row in found]


def same(world, run):
    """Whether a run ended as the undisturbed one: weights to the bit, each step once."""
    folders = [world.folder / "runs" / name / "ppo" / "model" for name in (run, "whole")]
    got, expected = map(weights, folders)
    return (
        got.keys() == expected.keys()
        and all(got[name].equal(expected[name]) for name in expected)
        and rows(world, run) == rows(world, "whole")
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_signal_saves_the_iteration_and_the_same_command_goes_on(
    world, attempt, number, code
):
    got, out, err = attempt(signal_at=2, number=number)
    assert got == code
    assert f"ppo      saved at 2/{STEPS}; the same command goes on from there\n" in out
    assert err.endswith(
        f"stopped by {number.name}; nothing half-done was published, the same command goes on\n"
    )
    assert not (attempt.run_dir / "ppo").exists()
    got, out, err = attempt()
    assert (got, err) == (0, "")
    assert f"ppo      resumes at 2/{STEPS} from a checkpoint\n" in out
    assert same(world, attempt.run_dir.name)
    assert [row["step"] for row in rows(world, attempt.run_dir.name)] == [1, 2, 3, 4]
    assert not (attempt.run_dir / ".checkpoints").exists()
    assert attempt()[1] == "ppo      up to date\n"
    assert attempt("checkpoint_every=1")[1] == "ppo      up to date\n"


def test_force_and_another_recipe_start_anew(world, attempt):
    attempt(signal_at=2)
    code, out, _ = attempt("force=true", signal_at=1)
    assert (code, "resumes" in out) == (143, False)
    code, out, _ = attempt("kl_coef=0.3", signal_at=1)
    assert "ppo      starts anew, its checkpoint at 1 is removed: ppo.kl_coef 0.05 → 0.3\n" in out
    assert attempt("kl_coef=0.3")[0] == 0
    assert not same(world, attempt.run_dir.name)


def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_leads_to_the_same_end(world, attempt):
    attempt("checkpoint_every=1", signal_at=3)
    damaged = attempt.run_dir / ".checkpoints" / "ppo" / "ppo-step-3" / "state.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    code, out, _ = attempt("checkpoint_every=1")
    assert code == 0
    assert "were published; moved to" in out
    assert "quarantine/ppo-step-3-1\n" in out
    assert f"ppo      resumes at 2/{STEPS} from a checkpoint\n" in out
    assert same(world, attempt.run_dir.name)


def test_a_full_disk_while_saving_exits_75_and_the_earlier_checkpoint_serves(world, attempt):
    attempt(signal_at=1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
    code, _, err = attempt("checkpoint_every=1")
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 75
    assert err.count("\n") == 1
    assert "ppo-step-2: cannot be written: File too large" in err
    code, out, _ = attempt()
    assert f"ppo      resumes at 1/{STEPS} from a checkpoint\n" in out
    assert same(world, attempt.run_dir.name)


def test_the_same_wandb_run_goes_on(world, attempt, monkeypatch):
    wandb, runs = Stand(), []
    begin = wandb.init
    monkeypatch.setattr(wandb, "init", lambda **kwargs: runs.append(kwargs) or begin(**kwargs))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("WANDB_MODE", "online")
    attempt("tracking.wandb=auto", signal_at=2)
    attempt("tracking.wandb=auto")
    attempt("tracking.wandb=auto", "force=true")
    assert [step for step, _ in wandb.logged] == [1, 2, 3, 4, 1, 2, 3, 4]
    first, second, forced = (run["id"] for run in runs)
    assert first == second != forced
    assert {run["resume"] for run in runs} == {"allow"}
