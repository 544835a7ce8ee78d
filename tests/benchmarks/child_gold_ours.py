"""Our PPO on the embedded world, as `make ppo` runs it, behind a gate."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from align.ppo import train as ppo
from align.runs.checkpoints import Checkpoints
from align.runs.contract import StageContext
from stages.methods.ppo import run as run_ppo
from tests.benchmarks.channel import Gate
from tests.benchmarks.child_ours import Gated, put_clocks
from tests.benchmarks.world import World


def main() -> None:
    gate = Gate()
    world = World.of(gate.job)
    gate.count_memory()
    put_clocks(gate)
    plain = ppo.train

    def train(roles: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        def probe() -> dict[str, float]:
            with roles.sampling() as policy:
                return world.gold(policy)

        gate.probe = probe
        gate.wait()
        return plain(roles, *args, **kwargs)

    ppo.train = train  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "ppo"
        out.mkdir()
        tracker: Any = Gated(gate)
        seed, every = gate.job["seed"], world.recipe.ppo.checkpoint_every
        checkpoints = Checkpoints(Path(folder), "ppo", {"seed": seed}, every=every)
        run_ppo(StageContext(world.recipe, out, world.parents, tracker, seed, checkpoints))


if __name__ == "__main__":
    main()
