"""wandb as a mirror of metrics.jsonl: whatever becomes of it, the stage neither waits nor ends.

A thread of its own does everything with wandb, from a queue that holds only so many rows. What
fails or does not keep up is told in one line, and the mirror is given up; metrics.jsonl goes on.
"""

from __future__ import annotations

import contextlib
import netrc
import os
import queue
import secrets
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from align.messages import one_line, say, tell

ROWS = 10_000
"""That wait for wandb at most; beyond, it does not keep up."""
CLOSE_SECONDS = 4.0
"""For what is still to be sent once the artifact is published."""
KILL_SECONDS = 0.5
"""For wandb to notice that its service is gone."""
SERVICE = "wandb-core"

Row = tuple[int, dict[str, float]]


class WandbMirror:
    """A copy of the metrics in wandb: online when logged in, otherwise offline.

    wandb starts with the first metrics, so that a bad data file is told without waiting for it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        group: str,
        stage: str,
        project: str,
        mode: Literal["auto", "offline"],
        config: dict[str, Any],
        run_id: str | None = None,
    ) -> None:
        """`run_id` names the run in wandb; one that is there already goes on."""
        self._folder, self._group, self._stage = folder, group, stage
        self._project, self._mode, self._config = project, mode, config
        self._run_id = run_id
        self._rows: queue.Queue[Row | None] = queue.Queue(ROWS)
        self._thread: threading.Thread | None = None
        self._sent = self._given = 0
        self._stopped = threading.Lock()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hand over the metrics of one step, and go on at once."""
        if self._stopped.locked():
            return
        if self._thread is None:
            # A daemon: a thread that hangs must not keep the process from ending.
            self._thread = threading.Thread(target=self._mirror, name="wandb", daemon=True)
            self._thread.start()
        self._given += 1
        try:
            self._rows.put_nowait((step, dict(metrics)))
        except queue.Full:
            self._give_up(say("does not keep up"))

    def close(self) -> None:
        """Wait for what is still to be sent, but not long."""
        if self._thread is None or self._stopped.locked():
            return
        end = time.monotonic() + CLOSE_SECONDS
        try:
            self._rows.put(None, timeout=CLOSE_SECONDS)
            self._thread.join(max(0.0, end - time.monotonic()))
        except queue.Full:
            pass  # the thread hangs, as told below
        if self._thread.is_alive():
            self._give_up(
                say(
                    "{sent} of {given} rows sent, no answer within {seconds:g} s",
                    sent=self._sent,
                    given=self._given,
                    seconds=CLOSE_SECONDS,
                )
            )
            self._thread.join(KILL_SECONDS)

    def _mirror(self) -> None:
        """The thread: everything that is done with wandb.

        The one place of this project that catches every exception. wandb runs a service process,
        files and perhaps a network; its calls raise whatever these raise, SystemExit included, and
        none of that may reach hours of work whose metrics are safe in metrics.jsonl.
        """
        try:
            run = self._started()
            while (row := self._rows.get()) is not None:
                step, metrics = row
                run.log(metrics, step=step)
                self._sent += 1
            run.finish()
        except BaseException as error:
            reason = (str(error).splitlines() or [""])[0]
            self._give_up(f"{type(error).__name__}: {one_line(reason)}")

    def _started(self) -> Any:
        import wandb

        online = self._mode == "auto" and logged_in()
        return wandb.init(
            project=self._project,
            group=self._group,
            job_type=self._stage,
            name=f"{self._group}-{self._stage}",
            dir=str(self._folder),
            mode="online" if online else "offline",
            config=self._config,
            id=self._run_id or secrets.token_hex(4),
            # Offline, wandb refuses to resume; its two folders then share one id.
            resume="allow" if online and self._run_id is not None else None,
            settings=wandb.Settings(
                console="off",
                disable_git=True,
                disable_code=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                silent=True,
            ),
        )

    def _give_up(self, reason: str) -> None:
        """Say so, the first time, and end wandb's service: it would be waited for at the exit."""
        if not self._stopped.acquire(blocking=False):
            return
        tell(
            say(
                "warning: wandb stopped ({reason}); metrics.jsonl goes on; tracking.wandb=off "
                "switches wandb off",
                reason=reason,
            ),
            error=True,
        )
        _end_service()


def _end_service() -> None:
    """Kill wandb's service, and have wandb forget it: at the exit it would be spoken to."""
    import psutil

    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended by itself
            if child.name() == SERVICE:
                child.kill()  # also where it is stopped (SIGSTOP)
    forget = threading.Thread(target=_tear_down, name="wandb-teardown", daemon=True)
    forget.start()
    forget.join(KILL_SECONDS)


def _tear_down() -> None:
    teardown = getattr(sys.modules.get("wandb"), "teardown", None)
    if teardown is not None:
        with contextlib.suppress(Exception, SystemExit):  # of a service that is no longer there
            teardown()


def logged_in() -> bool:
    """Tell whether wandb has a key, without importing it. WANDB_MODE still has the last word."""
    mode = os.environ.get("WANDB_MODE")
    if mode:
        return mode == "online"
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
