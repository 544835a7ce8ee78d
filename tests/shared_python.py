"""One Python for many commands: it imports the libraries once, and each command is a fork of it.

    python -m tests.shared_python SOCKET      serves; CLIENT stands in for .venv/bin/python

The client hands over its working directory, arguments and standard streams, and ends with the exit
code of the fork. So a shell or make runs `.venv/bin/python -m stages.sft …` as it is written, and
torch is not loaded each time. Sizes of every recipe are cut to what a test can wait for.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

CLIENT = """\
#!{python} -SE
import json, os, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect({address!r})
request = json.dumps([os.getcwd(), sys.argv[1:]]).encode()
socket.send_fds(link, [request], [0, 1, 2])
sys.exit(int(link.recv(8) or b"1"))
"""
SMALL = {
    "trainer": {"max_steps": 1, "per_device_train_batch_size": 4, "logging_steps": 1},
    "ppo": {"iterations": 1, "rollout_batch_size": 4, "probe_prompts": 2, "max_new_tokens": 8},
    "evaluate": {
        "max_prompts": 2,
        "samples_per_prompt": 1,
        "bootstrap": 20,
        "max_new_tokens": 8,
        "best_of_n": 2,
    },
}


def small(recipe: Any) -> Any:
    """The recipe with the sizes of SMALL, without wandb, on one thread."""
    from align.config.methods import TRL

    sections: dict[str, Any] = {
        name: section.model_copy(update={"trainer": section.trainer | SMALL["trainer"]})
        for name in TRL
        if (section := getattr(recipe, name)) and name not in ("rloo", "grpo")
    }
    sections |= {
        name: getattr(recipe, name).model_copy(update=SMALL[name]) for name in ("ppo", "evaluate")
    }
    sections["tracking"] = recipe.tracking.model_copy(update={"wandb": "off"})
    sections["model"] = recipe.model.model_copy(update={"threads": 1})
    return recipe.model_copy(update=sections)


def prepare() -> None:
    """Import what the stages need and cut their recipes; nothing is computed before a fork."""
    from align.config import methods
    from align.runs import command
    from align.runs.tracking import silence_telemetry
    from stages.pipeline import preload

    silence_telemetry()
    preload(methods.STAGES)
    read = command.load_recipe
    command.load_recipe = lambda *args, **kwargs: small(read(*args, **kwargs))


def serve(address: str) -> None:
    prepare()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    while listener in select.select([listener, sys.stdin], [], [])[0]:  # until stdin is closed
        link, _ = listener.accept()
        request, streams, _, _ = socket.recv_fds(link, 1 << 16, 3)
        child = os.fork()
        if child == 0:
            os._exit(_answer(request, streams))
        for stream in streams:
            os.close(stream)
        _, status = os.waitpid(child, 0)
        link.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        link.close()


def _answer(request: bytes, streams: list[int]) -> int:
    """Run one command in this fork, with the caller's streams, and return its exit code."""
    folder, arguments = json.loads(request)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    try:
        if arguments[0] == "-m":
            sys.argv = [arguments[1], *arguments[2:]]
            sys.modules.pop(arguments[1], None)  # a module that runs is not an imported one
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")
        code: Any = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # a fork must end here, whatever happens
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else 1


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[1])
    serve(sys.argv[1])
