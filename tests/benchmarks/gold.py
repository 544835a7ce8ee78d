"""Time to equal gold: how long each PPO trains until held-out gold is where TRL's ends.

Both start from the SFT policy and the reward model that a run has published, and sample from the
same prompts. Ours runs the recipe. TRL runs its own defaults (4 epochs, vf_coef 0.1, value clip
0.2, linear decay) with the recipe's KL coefficient, response length and rollout size, for a given
number of iterations at each of a few learning rates; the one that ends highest is compared.
Between iterations the policy answers the development split, the same random numbers each time;
that takes no time of either.
"""

from __future__ import annotations

from typing import Any

from align.config import PPOConfig
from align.config.recipe import load_recipe
from tests.benchmarks.channel import ROOT, Child
from tests.benchmarks.jobs import TRL_FOLDER

RATES = [1e-4, 2e-4, 3e-4]
"""Learning rates of TRL. Ten iterations from an SFT of 0.355 gave 0.465 (1e-4) and 0.467 (3e-4)."""

Curve = list[dict[str, float]]
"""Points with the seconds trained so far: iteration, cpu, wall, gold; the first is the start."""


def trl_settings(config: PPOConfig, learning_rate: float, iterations: int) -> dict[str, Any]:
    micro = min(32, config.rollout_batch_size)
    return {
        "learning_rate": learning_rate,
        "lr_scheduler_type": "linear",
        "bf16": False,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": config.rollout_batch_size // micro,
        "local_rollout_forward_batch_size": 64,
        "total_episodes": iterations * config.rollout_batch_size,
        "response_length": config.max_new_tokens,
        "kl_coef": config.kl_coef,
    }


def reach(curve: Curve, target: float) -> dict[str, float] | None:
    """The first point at which gold is at least the target."""
    return next((point for point in curve if point["gold"] >= target), None)


def compare(theirs: Curve, ours: Curve) -> dict[str, Any]:
    """Seconds of each until gold reaches TRL's last value, and their ratios; None: never."""
    target = theirs[-1]["gold"]
    points: dict[str, Any] = {"theirs": reach(theirs, target), "ours": reach(ours, target)}
    ratio: dict[str, float | None] = dict.fromkeys(("cpu", "wall"))
    if points["ours"] is not None:
        ratio = {
            kind: points["theirs"][kind] / points["ours"][kind] if points["ours"][kind] else None
            for kind in ratio
        }
    return {"target": target, **points, "ratio": ratio}


def follow(children: dict[str, Child], iterations: dict[str, int], every: int) -> dict[str, Curve]:
    """Train all of them in turn, each to its end; a point of the curve every so many iterations."""
    curves: dict[str, Curve] = {name: [] for name in children}
    spent = {name: {"cpu": 0.0, "wall": 0.0} for name in children}
    for done in range(max(iterations.values()) + 1):
        for name, child in children.items():
            if done > iterations[name]:
                continue
            if done:
                iteration = child.iterate()
                for kind in ("cpu", "wall"):
                    spent[name][kind] += iteration[kind]["whole"]
            if done % every == 0 or done == iterations[name]:
                gold = child.ask("probe")["gold"]
                curves[name].append({"iteration": done, **spent[name], "gold": gold})
                print(
                    f"  {name} {done}: gold {gold:.3f} at {spent[name]['cpu']:.0f} CPU s",
                    flush=True,
                )
    return curves


def run_gold(arguments: Any) -> dict[str, Any]:
    run = ROOT / arguments.run
    missing = [n for n in ("sft", "reward") if not (run / n / "manifest.json").exists()]
    if missing:
        return {"skipped": f"{run} has no {' and no '.join(missing)}; run `make pipeline` first"}
    overrides = [f"model.threads={arguments.threads}", *arguments.set]
    config = load_recipe(ROOT / arguments.recipe, overrides).ppo
    job = {
        "run": str(run),
        "recipe": arguments.recipe,
        "overrides": overrides,
        "samples": arguments.samples,
        "threads": arguments.threads,
        "device": "cpu",
        "seed": 0,
    }
    module = "tests.benchmarks.child_gold_"
    children = {
        f"TRL lr {rate:g}": Child(
            f"gold-trl-{rate:g}",
            f"{module}trl",
            job | {"trl": trl_settings(config, rate, arguments.iterations)},
            path=TRL_FOLDER,
        )
        for rate in arguments.rates
    }
    children["ours"] = Child("gold-ours", f"{module}ours", job)
    iterations = dict.fromkeys(children, arguments.iterations) | {"ours": config.iterations}
    curves = follow(children, iterations, arguments.every)
    for child in children.values():
        child.close()
    ours = curves.pop("ours")
    best = max(curves, key=lambda name: curves[name][-1]["gold"])
    return {"curves": curves | {"ours": ours}, "best": best, **compare(curves[best], ours)}


def show_gold(result: dict[str, Any]) -> None:
    if "skipped" in result:
        print(f"time to equal gold: not measured: {result['skipped']}")
        return
    theirs, ours = result["theirs"], result["ours"]
    print(f"\ntime to equal gold {result['target']:.3f} (the end of {result['best']})")
    print(
        f"TRL  {theirs['cpu']:.0f} CPU s, {theirs['wall']:.0f} s, iteration {theirs['iteration']}"
    )
    if ours is None:
        print("ours never reached it")
        return
    print(f"ours {ours['cpu']:.0f} CPU s, {ours['wall']:.0f} s, iteration {ours['iteration']}")
    if result["ratio"]["cpu"]:
        print(f"{result['ratio']['cpu']:.2f}× by CPU time, {result['ratio']['wall']:.2f}× by wall")
