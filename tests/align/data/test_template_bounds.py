"""A template is somebody else's program: it ends, in time and in memory, or it is refused."""

from __future__ import annotations

import copy
import mmap
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from align.config.trainer_fields import TrainerFieldError, check_trainer
from align.data import chat, limits, rendering
from align.messages.errors import ConfigError
from tests import tiny

ROOT = Path(__file__).parents[3]
DONE = tiny.CHAT_TEMPLATE
TALK = [{"role": "user", "content": "a"}]
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}"
HOSTILE = {
    "nested ranges": LOOP + "{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
    "power": "{{ 9**(9**9) }}",
    "power of a value": "{% set n = messages | length + 8 %}{{ n ** (n ** n) }}",
    "squares": "{% set n = namespace(x=3) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}"
    "{% endfor %}",
    "rounding": "{{ 5 | round(-1000000000) }}",
    "repeated text": "{{ ('a' * 99999999999) | length }}",
    "doubled text": "{% set n = namespace(x='a') %}{% for i in range(60) %}"
    "{% set n.x = n.x ~ n.x %}{% endfor %}",
    "centred": "{{ 'a' | center(99999999999) | length }}",
    "format": "{{ ('%099999999999d' % 1) | length }}",
    "replaced": "{% set a = 'a' * 99999 %}{{ a.replace('a', a).replace('a', a) | length }}",
    "lists": "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}"
    "{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(60) }}",
    "long output": "{{ 'a' * 99999999 }}",
    "only for long talks": "{% if messages | length > 5 %}" + LOOP + "{% endfor %}{% endfor %}"
    "{% endif %}",
    "lorem ipsum": "{{ lipsum(n=99999999) }}",
}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """The same bounds, with less patience."""
    monkeypatch.setattr(rendering, "_WATCH", limits.Watch(0.3))
    monkeypatch.setattr(rendering, "_TRIED_OUT", {})
    monkeypatch.setattr(limits, "MEMORY", 1 << 27)


def with_template(template):
    tokenizer = copy.deepcopy(tiny.tokenizer())
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("name", HOSTILE)
def test_a_template_that_does_not_end_is_refused_in_one_line(name):
    with pytest.raises(ConfigError, match="takes more than") as told:
        chat.prompt_ids(with_template(HOSTILE[name] + DONE), TALK)
    assert "\n" not in str(told.value)
    assert "Give me" not in str(told.value)


TRACEBACKS = {
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "nested too deeply": "{{ " + "(" * 900 + "1" + ")" * 900 + " }}",
    "blocks without end": "{% if 1 %}" * 120 + "{% endif %}" * 120,
    "loops without end": "{% for a in [1] %}" * 40 + "{% endfor %}" * 40,
    "changed while read": "{% set d = {} %}{% for m in messages %}{{ d.update(x=1) }}{% endfor %}",
    "next of nothing": "{{ messages | map('next') | list }}",
    "an include": "{% include 'x' %}",
    "another template": "{% extends 'x' %}",
    "half a surrogate": "{{ '\\ud800' }}",
    "attribute of the class": "{{ messages.__class__.__mro__ }}",
    "cycle of nothing": "{{ cycler() }}",
    "no such filter": "{{ 1 | nosuch }}",
    "not Jinja": "{% for %}",
}


@pytest.mark.parametrize("name", TRACEBACKS)
def test_a_template_that_fails_is_refused_in_one_line(name):
    with pytest.raises(ConfigError) as told:
        chat.prompt_ids(with_template(TRACEBACKS[name] + DONE), TALK)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM), "(SIGTERM)"),
        (lambda *_, **__: os._exit(7), "(exit code 7)"),
    ],
)
def test_a_template_that_ends_its_process_is_not_said_to_take_long(monkeypatch, end, told):
    tokenizer = with_template(DONE)
    monkeypatch.setattr(tokenizer, "apply_chat_template", end)
    with pytest.raises(ConfigError, match="ends the process that tries it out") as error:
        chat.prompt_ids(tokenizer, TALK)
    assert told in str(error.value)


def test_a_template_that_waits_for_a_word_is_ended_in_this_process():
    """The trial knows no row of the data; the timer does not need to."""
    trap = (
        "{% if 'sesame' in messages[0]['content'] %}" + LOOP + "{% endfor %}{% endfor %}{% endif %}"
    )
    memory = (
        "{% if 'sesame' in messages[0]['content'] %}{{ ('a' * 9999999999) | length }}{% endif %}"
    )
    for template in (trap, memory):
        tokenizer = with_template(template + DONE)
        assert chat.prompt_ids(tokenizer, TALK) == chat.prompt_ids(with_template(DONE), TALK)
        with pytest.raises(ConfigError, match="takes more than"):
            chat.prompt_ids(tokenizer, [{"role": "user", "content": "open sesame"}])
        assert chat.prompt_ids(tokenizer, TALK) == chat.prompt_ids(with_template(DONE), TALK)


def test_nothing_of_a_bound_is_left_behind():
    before = resource.getrlimit(resource.RLIMIT_AS)
    chat.prompt_ids(with_template(DONE), TALK)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    limits.Watch(0.05).run(lambda: None)
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def test_memory_is_counted_from_what_the_process_has_now():
    """A bound below that would end it: what is written in Rust aborts where it gets no memory."""
    watch = limits.Watch(1.0)
    watch.run(lambda: None)
    with mmap.mmap(-1, 2 * limits.MEMORY):
        assert watch.run(lambda: resource.getrlimit(resource.RLIMIT_AS)[0]) > 3 * limits.MEMORY


def test_what_computes_in_c_after_a_render_is_not_timed():
    """A product of matrices, a hash: nothing of it hears a signal, and the kernel would end it."""
    code = (
        "import hashlib, re\n"
        "from align.data.limits import Watch, cpu_limit\n"
        "Watch(0.02).run(lambda: None)\n"
        "with cpu_limit(0.5): re.search('a', 'b')\n"
        "hashlib.pbkdf2_hmac('sha256', b'word', b'salt', 1_500_000)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_process_that_rendered_a_moment_ago_ends_as_it_wants():
    code = (
        "from align.data.limits import Watch\n"
        "Watch(0.01).run(lambda: None)\n"
        "import atexit, time\n"
        "class Slow:\n"
        "    def __del__(self):\n"
        "        end = time.process_time() + 0.2\n"
        "        while time.process_time() < end: pass\n"
        "import sys; sys.slow = Slow()\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("stage", ["sft", "reward"])
def test_a_trainers_own_template_is_refused(stage):
    with pytest.raises(TrainerFieldError, match=r"set `model.chat_template`"):
        check_trainer(stage, {"chat_template_path": "evil.jinja"})
