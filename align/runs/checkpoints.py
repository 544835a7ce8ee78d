"""Checkpoints of a running stage: written whole or not at all, the newest that verifies is used.

They lie in runs/RUN/.checkpoints/STAGE until the stage publishes. Each is an artifact of its own,
written by the same commit protocol (align/runs/artifacts.py), and bound by its manifest to
everything that decides the stage's result: another recipe, other data or other code make it
useless.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from align.messages import doing, say, tell
from align.messages.errors import CorruptArtifactError, DivergedError, UnlistedFileError
from align.runs.artifacts import (
    WORK,
    exists,
    publish,
    quarantine,
    read_artifact,
    recover,
    retryable,
    safetensors_faults,
    workspace,
)
from align.runs.finite import check_files
from align.runs.manifest import Manifest, changes, fingerprint
from align.runs.signals import Stop

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 2
"""The newest may turn out damaged; the one before it is then used."""
TENSORS, VALUES, ATTEMPT = "state.safetensors", "state.json", "attempt.json"


class Saved(NamedTuple):
    """A state, written down."""

    tensors: dict[str, Tensor]
    values: Any
    """JSON."""


class Checkpoints:
    """What a stage has saved of its way, and where it saves more.

    Args:
        run_dir: the run directory; its lock must be held.
        stage: name of the stage.
        inputs: everything that decides the stage's result, as in its manifest.
        every: steps from one checkpoint to the next; None: minutes alone count.
        minutes: from one checkpoint to the next, at the end of a step; None: steps alone count.
        curve: a metrics file that goes with the state: saved with it, and put back on resuming.
        stop: tells of a stop signal, which makes the next step save and end the stage.
        computer: says what decides the last bits of a sum here; asked when torch has been loaded.
        report: where lines for the user go.
    """

    def __init__(
        self,
        run_dir: Path,
        stage: str,
        inputs: dict[str, Any],
        *,
        every: int | None = 1,
        minutes: float | None = None,
        curve: Path | None = None,
        stop: Stop | None = None,
        computer: Callable[[], str] = str,
        report: Callable[[str], None] = tell,
    ) -> None:
        self._run_dir, self._stage, self._inputs = run_dir, stage, inputs
        self._every, self._minutes = every, minutes
        self._curve, self.stop = curve, stop or Stop()
        self._saved_at = time.monotonic()
        self._computer, self._earlier = computer, list[str]()
        self._say = lambda line: report(f"{stage:<9}{line}")
        self._folder = checkpoint_folder(run_dir, stage)
        with retryable(say("{path}: cannot be made", path=self._folder)):
            self._folder.mkdir(parents=True, exist_ok=True)
            recover(self._folder)
            self.attempt = self._take_up()
            """Name of this attempt at the stage; the same each time that it is taken up again."""

    def _take_up(self) -> str:
        """Read the name of the attempt that was broken off, or begin a new one."""
        place = self._folder / ATTEMPT
        made_from = fingerprint(self._inputs)
        try:
            known = json.loads(place.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):  # none yet, or torn
            known = None
        match known:
            case {"fingerprint": found, "name": str(name)} if found == made_from:
                return name
        name = secrets.token_hex(4)
        place.write_text(json.dumps({"fingerprint": made_from, "name": name}), encoding="utf-8")
        return name

    def latest(self, total: int | None = None) -> Saved | None:
        """The newest checkpoint of this very stage that verifies; others are put aside.

        Args:
            total: steps of the whole stage, to say how far the checkpoint is; None: not known yet.
        """
        for step, path in self._present():
            if (manifest := self._verified(path, step)) is None:
                continue
            if manifest.fingerprint != fingerprint(self._inputs):
                told = ", ".join(changes(manifest.inputs, self._inputs)[:3])
                self._say(
                    say(
                        "starts anew, its checkpoint at {step} is removed: {told}",
                        step=step,
                        told=told,
                    )
                )
                for _, useless in self._present():
                    self._remove(useless)
                return None
            self._compare(manifest)
            at = say("step {number}", number=step) if total is None else f"{step}/{total}"
            return self._read(path, say("resumes at {at} from a checkpoint", at=at))
        return None

    def part(
        self,
        name: str,
        make: Callable[[], Saved],
        *,
        decides: Callable[[str], bool] = lambda _: True,
        made_from: dict[str, Any] | None = None,
        exact: bool = False,
    ) -> Saved:
        """Return a part of the result: made once, and kept until the stage has published.

        Args:
            decides: whether an input of the stage, by its name, decides this part.
            made_from: what else decides it.
            exact: it is the same on every computer.
        """
        target = self._folder / f"{self._stage}-{name.replace(' ', '-')}"
        inputs = {key: value for key, value in self._inputs.items() if decides(key)}
        inputs |= made_from or {}
        kept = self._verified(target, None) if exists(target) else None
        if kept is not None and kept.fingerprint == fingerprint(inputs):
            self._say(say("{name}: kept from before", name=name))
            if not exact:
                self._compare(kept)
            return _load(target)
        made = make()
        self._publish(target, made, inputs)
        return made

    @property
    def computers(self) -> list[str]:
        """What the stage has been computed on, in turn, this computer last."""
        now = self._computer()
        return [*(name for name in self._earlier if name != now), now]

    def _compare(self, manifest: Manifest) -> None:
        """Say where the last bits may be others than those of a stage that nobody broke off."""
        now, known = self._computer(), set(self._earlier)
        self._earlier += [name for name in manifest.computers if name not in known]
        others = [name for name in manifest.computers if name != now]
        if others and not known.issuperset(others):
            told = say(
                "made on {others}, goes on on {now}: the last bits may differ",
                others="; ".join(others),
                now=now,
            )
            self._say(told)
        elif now.startswith("cuda") and not known:
            self._say(say("on a GPU the last bits may differ from those of one start"))

    def _verified(self, path: Path, step: int | None) -> Manifest | None:
        """The manifest of what was saved; None where it is damaged, and now in quarantine."""
        try:
            manifest = read_artifact(path).manifest
            check_files(path, what=path.name, step=step)
        except (CorruptArtifactError, UnlistedFileError, DivergedError) as error:
            place = quarantine(path, str(error), shelf=self._run_dir / "quarantine")
            self._say(say("{error}; moved to {place}", error=error, place=place))
            return None
        return manifest

    def _read(self, path: Path, line: str) -> Saved:
        saved = _load(path)
        if self._curve is not None:
            shutil.copyfile(path / self._curve.name, self._curve)
        self._say(line)
        return saved

    def due(self, step: int, total: int) -> bool:
        """Whether a step is to be saved: every n-th, after so many minutes, the last, at a stop."""
        late = time.monotonic() - self._saved_at >= 60 * (self._minutes or math.inf)
        counted = self._every is not None and step % self._every == 0
        return counted or late or step == total or self.stop.asked

    def reached(self, step: int, total: int, capture: Callable[[], Saved]) -> None:
        """Save what is due after a step.

        Raises:
            Stopped: a signal asked for it, and the step is saved.
        """
        if self.due(step, total):
            self.save(step, capture())
        if self.stop.asked:
            self._say(
                say(
                    "saved at {step}/{total}; the same command goes on from there",
                    step=step,
                    total=total,
                )
            )
            self.stop.now()

    def save(self, step: int, saved: Saved) -> None:
        """Write a checkpoint, then let go of those it makes superfluous."""
        target = self._folder / f"{self._stage}-step-{step}"
        self._publish(target, saved, self._inputs, step=step, curve=self._curve)
        self._saved_at = time.monotonic()
        for _, path in self._present()[KEPT:]:
            self._remove(path)

    def _publish(
        self,
        target: Path,
        saved: Saved,
        inputs: dict[str, Any],
        *,
        step: int | None = None,
        curve: Path | None = None,
    ) -> None:
        with doing(say("saving a checkpoint")), workspace(target) as work:
            with retryable(say("{path}: cannot be written", path=target)):
                _write_tensors(saved.tensors, work / TENSORS)
                (work / VALUES).write_text(json.dumps(saved.values), encoding="utf-8")
                if curve is not None:
                    shutil.copyfile(curve, work / curve.name)
            manifest = Manifest(
                stage=self._stage,
                fingerprint=fingerprint(inputs),
                inputs=inputs,
                config={},
                seed=self._inputs["seed"],
                computers=self.computers,
            )
            publish(work, target, manifest, step=step)

    def _present(self) -> list[tuple[int, Path]]:
        """Steps and folders, the newest first."""
        pattern = re.compile(rf"{re.escape(self._stage)}-step-(\d+)")
        found = ((pattern.fullmatch(path.name), path) for path in self._folder.iterdir())
        return sorted(((int(m[1]), path) for m, path in found if m), reverse=True)

    def _remove(self, path: Path) -> None:
        """Take the name away first, so that a checkpoint is never seen half-removed."""
        aside = Path(tempfile.mkdtemp(prefix=WORK, dir=self._folder))
        path.rename(aside / path.name)
        shutil.rmtree(aside, ignore_errors=True)


def checkpoint_folder(run_dir: Path, stage: str) -> Path:
    return run_dir / ".checkpoints" / stage


def forget(run_dir: Path, stage: str) -> None:
    """Remove every checkpoint of a stage, and the name of its attempt."""
    folder = checkpoint_folder(run_dir, stage)
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # not there, or another stage's are in it
        folder.parent.rmdir()


def _load(path: Path) -> Saved:
    from safetensors.torch import load_file

    # Cloned: the file's own memory is neither aligned nor ours once the file is gone.
    tensors = {name: tensor.clone() for name, tensor in load_file(path / TENSORS).items()}
    return Saved(tensors, json.loads((path / VALUES).read_text(encoding="utf-8")))


def _write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    with safetensors_faults():
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
