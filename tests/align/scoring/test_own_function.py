"""A user's function scores as a reward model does; what is wrong with it is one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from align.config import PPOConfig
from align.messages.errors import ConfigError
from align.scoring.own_function import OwnFunction
from align.scoring.reward_model import Conversation

TOLD = [
    Conversation([], [{"role": "user", "content": "?"}, {"role": "assistant", "content": "a" * n}])
    for n in (3, 1, 4, 1, 5)
]
BY_LENGTH = """
asked = []
def score(conversations):
    asked.append(len(conversations))
    return [len(messages[-1]["content"]) / 2 for messages in conversations]
"""


def written(tmp_path, text):
    path = tmp_path / "own.py"
    path.write_text(text, "utf-8")
    return str(path)


def test_it_scores_in_order_by_batches_and_reads_whatever_is_long(tmp_path):
    model = OwnFunction(written(tmp_path, BY_LENGTH))
    assert model.score(TOLD, batch_size=2) == [1.5, 0.5, 2.0, 0.5, 2.5]
    assert model.function.__globals__["asked"] == [2, 2, 1]
    assert model.fits(TOLD[0].messages, room=10**9)


def test_what_it_does_to_its_messages_stays_with_it(tmp_path):
    path = written(
        tmp_path,
        "def score(all):\n    for m in all: m[-1]['content'] = ''\n    return [0] * len(all)",
    )
    assert OwnFunction(path).score(TOLD) == [0.0] * 5
    assert TOLD[0].messages[-1]["content"] == "aaa"


@pytest.mark.parametrize("kind", [np.float32, torch.tensor, int])
def test_numbers_of_other_libraries_are_numbers(tmp_path, kind):
    model = OwnFunction(written(tmp_path, BY_LENGTH))
    model.function = lambda told: [kind(2) for _ in told]
    scores = model.score(TOLD)
    assert scores == [2.0] * 5 and {type(score) for score in scores} == {float}


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ("[1.0]", "own.py: score returned 1 scores for 5 conversations; return one for each"),
        ("[None] * 5", "own.py: score returned None; a score is a finite number"),
        ("[float('nan')] * 5", "own.py: score returned nan; a score is a finite number"),
        ("['high'] * 5", "own.py: score returned 'high'; a score is a finite number"),
    ],
)
def test_what_is_no_score_is_told(tmp_path, returned, told):
    model = OwnFunction(written(tmp_path, f"def score(conversations):\n    return {returned}"))
    with pytest.raises(ConfigError) as caught:
        model.score(TOLD)
    assert told in str(caught.value)


def test_what_it_raises_comes_out_as_it_is(tmp_path):
    model = OwnFunction(written(tmp_path, "def score(conversations):\n    return 1 / 0"))
    with pytest.raises(ZeroDivisionError):
        model.score(TOLD)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def scores(x):\n    pass", "has no function `score`; write `def score(conversations)`"),
        ("x = 1\ndef score(x:\n", "own.py:2: '(' was never closed; correct it"),
        ("raise SystemExit", "has no function `score`"),
    ],
)
def test_a_file_that_cannot_score_is_refused_with_the_recipe_and_not_run(tmp_path, text, told):
    with pytest.raises(ValueError, match=r"own\.py") as caught:
        PPOConfig(reward_model=written(tmp_path, text))
    assert told in str(caught.value)


def test_a_file_has_no_revision(tmp_path):
    with pytest.raises(ValueError, match="revision: a Python file has none"):
        PPOConfig(reward_model={"path": written(tmp_path, BY_LENGTH), "revision": "abc"})
