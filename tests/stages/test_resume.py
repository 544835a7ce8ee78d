"""A PPO stage that is stopped and run again: what a person sees, and what is left in the end."""

from __future__ import annotations

import resource
import signal
import sys

import pytest

from align.runs.tracking import Tracker
from tests.align.runs.test_mirror import Stand
from tests.stages.resuming import curve, differences, stopped_in
from tests.stages.world import LORA, World

STEPS = 4


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A world in which PPO has run once, undisturbed, as run `whole`."""
    world = World(tmp_path_factory.mktemp("resume"))
    world.recipe["reward"]["lora"] = LORA
    world.recipe["ppo"] |= {"iterations": STEPS, "learning_rate": 1e-2, "lora": LORA}
    assert world.run("sft") == world.run("reward") == 0
    assert world.run("ppo", "run=whole", *world.parents()) == 0
    return world


@pytest.fixture
def attempt(world, tmp_path, monkeypatch, capsys):
    """Run PPO in a run directory of its own; return (exit code, stdout, stderr)."""

    def call(*items, signal_at=0, number=signal.SIGTERM):
        with stopped_in(monkeypatch, Tracker, "log", signal_at, number):
            code = world.run("ppo", f"run={tmp_path.name}", *world.parents(), *items)
        return code, *capsys.readouterr()

    call.run_dir = world.folder / "runs" / tmp_path.name
    return call


def to_the_whole(world, attempt):
    """What differs from the undisturbed run."""
    return differences(world, "ppo", attempt.run_dir.name, "whole")


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
    assert "ppo      encoded prompts: kept from before\n" in out
    assert f"ppo      resumes at 2/{STEPS} from a checkpoint\n" in out
    assert to_the_whole(world, attempt) == []
    assert [row["step"] for row in curve(world, "ppo", attempt.run_dir.name)] == [1, 2, 3, 4]
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
    assert to_the_whole(world, attempt)


def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_leads_to_the_same_end(world, attempt):
    attempt("checkpoint_every=1", signal_at=3)
    damaged = attempt.run_dir / ".checkpoints" / "ppo" / "ppo-step-3" / "state.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    code, out, _ = attempt("checkpoint_every=1")
    assert code == 0
    assert "were published; moved to" in out
    assert "quarantine/ppo-step-3-1\n" in out
    assert f"ppo      resumes at 2/{STEPS} from a checkpoint\n" in out
    assert to_the_whole(world, attempt) == []


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
    assert to_the_whole(world, attempt) == []


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
