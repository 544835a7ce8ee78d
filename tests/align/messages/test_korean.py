"""Where Korean is asked for, report, table, verdict and errors say nothing in English."""

from __future__ import annotations

import copy
import html
import json
import re

import pytest

from align.config.recipe import load_recipe
from align.config.sources import DataSource
from align.data import chat
from align.data.files import read_rows
from align.data.load import load_preferences
from align.messages import say
from align.messages.errors import UserError
from align.models.untrusted import check_files
from align.report.frontier import words
from align.report.render import render
from align.report.terminal import table
from align.report.verdict import verdict
from tests import summaries, tiny
from tests.align.report.test_alarms import logged

ENGLISH = re.compile(r"(?:\b[a-z’']+ ){3,}[a-z’']+")
"""Four words in a row: keys, commands and metrics have fewer."""
ANSWERS = ("What is the capital of Korea?", "서울 Seoul capital capital is the")


@pytest.fixture(autouse=True)
def korean(monkeypatch):
    monkeypatch.setenv("ALIGN_LANG", "ko")


def english(text):
    for answer in ANSWERS:
        text = text.replace(answer, "")
    return ENGLISH.findall(text)


def test_the_pattern_finds_english():
    assert english("error: my.yaml: there is no such recipe") != []
    assert english("align run mine.yaml ppo.iterations=5 은 실행합니다") == []


def test_a_report_says_nothing_in_english():
    summary = summaries.summary()
    metrics = summaries.METRICS | {"ppo": logged([20.0, *[40.0] * 9], [0, 0, 1, *[0] * 7])}
    page, notes = render(summary, summaries.sample_rows(), metrics, showcase=2)
    page = re.sub(r"<style>.*?</style>|<[^>]*>", "\n", page, flags=re.S)
    assert english(html.unescape(page)) == []
    assert english(notes.replace("\\", "")) == []
    found = verdict(summary)
    told = [table(summary), found.headline, *found.sentences, *words(summary)]
    assert english("\n".join(told)) == []
    assert (
        "답이 처음보다 훨씬 길어졌거나 짧아졌습니다(response/length 40, 처음에는 20)"
        in notes.replace("\\", "")
    )


RECIPES = (
    "",
    "- a\n",
    "model: {path: data/tiny/base}\n  x: 1\n",
    "model: {path: data/tiny/base, colour: red}\n",
    "model: {path: 7}\n",
    "model: {path: data/tiny/base, device: tpu}\n",
    "model: {path: data/tiny/base}\nppo: {kl_coef: -1}\n",
    "model: {path: data/tiny/base}\nppo: {rollout_batch_size: 10, minibatches: 3}\n",
    "model: {path: data/tiny/base}\nppo: {kl_coef: 0, kl_target: 1}\n",
    "model: {path: data/tiny/base}\nsft: {trainer: {learning_rat: 1e-4}}\n",
    "model: {path: data/tiny/base}\nevaluate: {policies: [sft, sft]}\n",
    "model: {path: data/tiny/base}\nevaluate: {policies: [dpo]}\n",
    "model: {path: data/tiny/base}\ndata: {prompts: {path: a.jsonl, part: heldout}}\n",
    "model: {path: data/tiny/base}\nseed: many\n",
)
ROWS = (
    "prompt,chosen,rejected\n",
    "prompt,chosen,rejected\n,yes,no\n",
    "prompt,chosen,rejected\nhello,yes,\n",
    "prompt,chosen,rejected\nhello,yes,yes\n",
    "question,good,bad\nhello,yes,no\n",
    "prompt,chosen,rejected\nhello,yes\n",
)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_mistake_in_a_recipe_is_told_in_korean(tmp_path, recipe):
    path = tmp_path / "r.yaml"
    path.write_text(recipe, encoding="utf-8")
    with pytest.raises(UserError) as raised:
        load_recipe(path, [])
    is_korean(raised.value)


@pytest.mark.parametrize("rows", ROWS)
def test_a_mistake_in_a_row_is_told_in_korean(tmp_path, rows):
    path = tmp_path / "r.csv"
    path.write_text(rows, encoding="utf-8")
    with pytest.raises(UserError) as raised:
        load_preferences(DataSource(path=str(path)))
    is_korean(raised.value)


FOREIGN = (
    {"_attn_implementation": "evil/kernel"},
    {"_attn_implementation": "flash_attention_3"},
    {"num_hidden_layers": 10**9},
    {"vocab_size": 10**12},
)


@pytest.mark.parametrize("config", FOREIGN)
def test_what_a_model_may_not_say_is_told_in_korean(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UserError) as raised:
        check_files(tmp_path, None)
    is_korean(raised.value)


def test_a_template_beyond_its_bounds_is_told_in_korean():
    tokenizer = copy.deepcopy(tiny.tokenizer())
    tokenizer.chat_template = "{{ 'a' * 99999999 }}"
    with pytest.raises(UserError, match="글자 1,000,000개") as raised:
        chat.prompt_ids(tokenizer, [{"role": "user", "content": "a"}])
    is_korean(raised.value)


@pytest.mark.parametrize("path", [".", "./no.jsonl"])
def test_a_file_that_is_none_is_told_in_korean(path):
    with pytest.raises(UserError) as raised:
        read_rows(DataSource(path=path))
    is_korean(raised.value)


def is_korean(error):
    told = say(error.sentence, **error.values)
    assert english(told) == []
    for line in told.splitlines():
        assert re.search("[가-힣]", line), line
