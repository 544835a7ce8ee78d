"""P10: a PPO run that is broken off and taken up again ends where it would have ended anyway."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import get_peft_model

from align.ppo import train as ppo
from align.ppo.roles import SeparateRoles
from align.ppo.state import TrainState, capture, draw, restore
from align.runs.checkpoints import Checkpoints, Saved
from tests import tiny, tiny_roles
from tests.tiny_ppo import weights
from tests.tiny_roles import PROMPTS, Log

INPUTS = {"seed": 0}
LAYOUTS = ["shared, LoRA", "shared, value head", "separate, LoRA", "separate, full"]


class Killed(BaseException):
    """A run ends here, after an update and before it is saved."""


class KilledAt(Log):
    """A tracker in whose `log` of the given step the run ends."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.kill_at = step

    def log(self, step, metrics, *, total=None) -> None:
        self.rows.append({"step": step, **metrics})
        if step == self.kill_at:
            raise Killed


def build(layout, folder, *, start=0):
    """Roles whose adapters start from the random weights of `start`."""
    torch.manual_seed(start)
    match layout:
        case "shared, LoRA":
            return tiny_roles.shared(folder / "reward")
        case "shared, value head":
            return tiny_roles.shared(folder / "reward", critic="head")
        case "separate, full":
            return tiny_roles.separate()
    llama = tiny.llama()
    torch.manual_seed(start)
    models = (get_peft_model(llama, tiny_roles.lora()), tiny.llama(), tiny_roles.reward_model())
    lora = tiny_roles.lora()
    return SeparateRoles(*models, pad_id=0, stop_ids=tiny_roles.STOPS, value_lora=lora)


def trained(roles):
    return weights([*roles.policy_parameters, *roles.value_parameters])


def run(roles, config, *, kill_at=0, checkpoints=None):
    """Run PPO, perhaps to a kill; return the rows that it logged."""
    log = KilledAt(kill_at)
    try:
        ppo.train(roles, PROMPTS, config, tracker=log, seed=0, checkpoints=checkpoints)
    except Killed:
        assert kill_at
    return log.rows


@pytest.mark.parametrize("kl_target", [None, 0.5], ids=["fixed", "adaptive"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_2_steps_and_a_resume_and_2_more_are_4_steps(tmp_path, layout, kl_target):
    """P10: weights of policy and critic to the bit, and every metric. Killed in the third step."""
    config = tiny_roles.config(iterations=4, kl_target=kl_target, critic_warmup=1)
    whole = build(layout, tmp_path)
    expected = run(whole, config)
    assert len({row["ppo/kl/coef"] for row in expected}) == (1 if kl_target is None else 3)

    broken = run(
        build(layout, tmp_path), config, kill_at=3, checkpoints=Checkpoints(tmp_path, "ppo", INPUTS)
    )
    resumed = build(layout, tmp_path, start=1)  # all that is trained comes from the checkpoint
    rest = run(resumed, config, checkpoints=Checkpoints(tmp_path, "ppo", INPUTS))
    assert broken[:2] + rest == expected
    for got, wanted in zip(trained(resumed), trained(whole), strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("kill_at", [1, 2, 4, 5])
def test_wherever_it_is_killed_it_goes_on_from_the_last_multiple(tmp_path, capsys, kill_at):
    """A checkpoint every two: within the warm-up, and after the last step, when all is done."""
    config = tiny_roles.config(iterations=5, epochs=1, critic_warmup=2, lr_schedule="linear")
    whole = tiny_roles.separate()
    expected = run(whole, config)
    every_two = {"every": 2}
    run(
        tiny_roles.separate(),
        config,
        kill_at=kill_at,
        checkpoints=Checkpoints(tmp_path, "ppo", INPUTS, **every_two),
    )
    resumed, told = tiny_roles.separate(), capsys.readouterr().out
    assert told == ""
    rest = run(resumed, config, checkpoints=Checkpoints(tmp_path, "ppo", INPUTS, **every_two))
    start = (kill_at - 1) // 2 * 2
    assert rest == expected[start:]
    told = f"ppo      resumes at {start}/5 from a checkpoint\n" if start else ""
    assert capsys.readouterr().out == told
    for got, wanted in zip(trained(resumed), trained(whole), strict=True):
        assert torch.equal(got, wanted)


def test_a_finished_run_that_was_not_published_is_not_trained_again(tmp_path):
    config = tiny_roles.config(iterations=3)
    whole, log = tiny_roles.separate(), Log()
    checkpoints = Checkpoints(tmp_path, "ppo", INPUTS, every=100)
    last = ppo.train(whole, PROMPTS, config, tracker=log, seed=0, checkpoints=checkpoints)
    again, silent = tiny_roles.separate(), Log()
    checkpoints = Checkpoints(tmp_path, "ppo", INPUTS, every=100)
    metrics = ppo.train(again, PROMPTS, config, tracker=silent, seed=0, checkpoints=checkpoints)
    assert metrics == last == log.rows[-1]
    assert silent.rows == []
    assert all(map(torch.equal, trained(again), trained(whole)))


def test_training_draws_nothing_from_the_global_generator():
    """Why that generator is no part of the state."""
    torch.manual_seed(5)
    roles = tiny_roles.separate()
    before = torch.get_rng_state()
    run(roles, tiny_roles.config())
    assert torch.equal(torch.get_rng_state(), before)


class Memory:
    """Checkpoints that lie in memory: the state after the first step."""

    def __init__(self, saved: Saved | None = None) -> None:
        self.saved = saved

    def latest(self, total):
        return self.saved

    def reached(self, step, total, capture):
        self.saved = self.saved or copy.deepcopy(capture())


PARTS = [
    *("iteration", "kl_coef", "waiting", "generator", "policy/lr", "value/lr"),
    *(f"{role}/{part}" for role in ("policy", "value") for part in ("weight/0", "adam/0/exp_avg")),
    *(f"{role}/adam/0/{part}" for role in ("policy", "value") for part in ("exp_avg_sq", "step")),
]


SHORT = tiny_roles.config(
    iterations=2, rollout_batch_size=4, epochs=1, kl_target=0.5, adam_eps=1e-8
)


@pytest.fixture(scope="module")
def after_one():
    """The state after the first of two steps, and the second one's row and weights."""
    memory, roles = Memory(), tiny_roles.separate()
    rows = run(roles, SHORT, checkpoints=memory)
    return memory.saved, rows[1:], trained(roles)


@pytest.mark.parametrize("lost", ["nothing", *PARTS])
def test_what_comes_next_depends_on_each_part_of_the_state(after_one, lost):
    saved, expected, weights_after = after_one
    start = capture(TrainState.start(tiny_roles.separate(), SHORT, seed=0))
    tensors, values = dict(saved.tensors), dict(saved.values)
    if lost in values:
        values[lost] = start.values[lost]
    elif lost in tensors:
        tensors[lost] = start.tensors.get(lost, torch.zeros_like(tensors[lost]))
    roles = tiny_roles.separate()
    rest = run(roles, SHORT, checkpoints=Memory(Saved(tensors, values)))
    same = all(map(torch.equal, trained(roles), weights_after))
    assert (same and rest == expected) is (lost == "nothing")


def test_a_state_of_other_models_is_refused():
    config = tiny_roles.config()
    saved = capture(TrainState.start(tiny_roles.separate(), config, seed=0))
    other = TrainState.start(tiny_roles.separate(tiny.gpt2), config, seed=0)
    with pytest.raises(AssertionError):
        restore(other, saved)


def test_every_prompt_comes_once_before_any_comes_again():
    prompts = [[n] for n in range(7)]
    state = TrainState.start(tiny_roles.separate(), tiny_roles.config(), seed=0)
    drawn = [prompt[0] for _ in range(7) for prompt in draw(prompts, 3, state)]
    assert [sorted(drawn[start : start + 7]) for start in (0, 7, 14)] == [list(range(7))] * 3
