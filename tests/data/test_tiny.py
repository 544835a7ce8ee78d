"""The embedded world is what its README says, and its held-out rows are held out."""

import itertools
import json
import math
import re
from pathlib import Path
from random import Random

import pytest

from align.scoring.rules import judge
from data.tiny import build, lexicon, manners
from data.tiny.corpus import FORUM, documents
from data.tiny.families import all_families
from data.tiny.family import inflect

WORLD = Path(build.__file__).parent
TRAINING = ("sft", "preferences", "prompts")
HELD_OUT = ("preferences.dev", "preferences.test", "evaluation.dev", "evaluation.test")


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (WORLD / f"{name}.jsonl").open(encoding="utf-8")]


@pytest.fixture(scope="module")
def world() -> dict[str, list[dict]]:
    return {name: rows(name) for name in (*TRAINING, *HELD_OUT)}


def test_the_generator_writes_what_is_shipped(tmp_path):
    build.write(tmp_path, seed=0)
    for name in (*TRAINING, *HELD_OUT):
        shipped = (WORLD / f"{name}.jsonl").read_bytes()
        assert (tmp_path / f"{name}.jsonl").read_bytes() == shipped, name


def test_sizes(world):
    assert {name: len(world[name]) for name in world} == {
        "sft": 8000,
        "preferences": 10000,
        "prompts": 2400,
        "preferences.dev": 600,
        "preferences.test": 1200,
        "evaluation.dev": 480,
        "evaluation.test": 480,
    }


def test_no_held_out_prompt_is_trained_on_and_dev_and_test_share_none(world):
    trained = {row["prompt"] for name in TRAINING for row in world[name]}
    dev = {row["prompt"] for name in ("evaluation.dev", "preferences.dev") for row in world[name]}
    test = {
        row["prompt"] for name in ("evaluation.test", "preferences.test") for row in world[name]
    }
    assert not trained & (dev | test)
    assert not dev & test


def test_a_held_out_question_stands_in_no_other_split_however_it_is_opened(world):
    openings = {o for row in lexicon.OPENINGS.values() for o in row if o}
    pattern = re.compile("^(?:" + "|".join(map(re.escape, openings)) + ")+")
    questions = {n: {pattern.sub("", r["prompt"]) for r in world[n]} for n in world}
    trained = set().union(*(questions[name] for name in TRAINING))
    dev = questions["preferences.dev"] | questions["evaluation.dev"]
    test = questions["preferences.test"] | questions["evaluation.test"]
    assert not trained & (dev | test)
    assert not dev & test


def test_half_of_the_evaluation_comes_from_wordings_that_no_training_split_has(world):
    trained = {row["template"] for name in TRAINING for row in world[name]}
    for split in ("evaluation.dev", "evaluation.test"):
        new = [row for row in world[split] if row["template"] not in trained]
        assert len(new) == len(world[split]) / 2
        assert all(row["seen"] == (row["template"] in trained) for row in world[split])


def test_every_family_speaks_both_languages_in_every_file(world):
    expected = {(f.name, language) for f in all_families() for language in lexicon.LANGUAGES}
    assert len(expected) == 30
    for name in world:
        assert {(row["family"], row["language"]) for row in world[name]} == expected, name


def test_flawless_answers_score_one_and_wrong_ones_at_most_half():
    rng = Random(7)
    for family, language in itertools.product(all_families(), lexicon.LANGUAGES):
        for seen in (True, False):
            request = build.request(rng, family, language, seen=seen)
            for pattern in family.good[language]:
                good = inflect(pattern.format(**request.slots))
                assert judge(good, request.checks()) > 0.97, (request.prompt, good)
            for evasion in manners.EVASIONS[language]:
                assert judge(evasion, request.checks()) == 0.0, (request.prompt, evasion)


def test_preferences_follow_the_documented_noise_model(world):
    for row in world["preferences.test"]:
        longer = max(-2, min(2, (len(row["chosen"]) - len(row["rejected"])) / 60))
        logit = (row["chosen_gold"] - row["rejected_gold"]) / 0.08 + 0.20 * longer
        assert row["bayes"] == pytest.approx(1 / (1 + math.exp(-logit)), abs=2e-3)
    # The labels were drawn with those probabilities: a z-test over both files.
    pairs = world["preferences"] + world["preferences.test"]
    ceiling = [max(row["bayes"], 1 - row["bayes"]) for row in pairs]
    agreed = sum(row["bayes"] >= 0.5 for row in pairs)
    std = math.sqrt(sum(p * (1 - p) for p in ceiling))
    assert abs(agreed - sum(ceiling)) < 3 * std


def test_the_readme_states_the_bayes_ceiling_and_the_quality_that_the_files_have(world):
    readme = (WORLD.parent / "README.md").read_text(encoding="utf-8")
    ceiling = [max(row["bayes"], 1 - row["bayes"]) for row in world["preferences.test"]]
    assert f"**{sum(ceiling) / len(ceiling):.3f}** on `preferences.test.jsonl`" in readme
    golds = [row["gold"] for row in world["sft"]]
    assert f"Mean gold of the demonstrations: {sum(golds) / len(golds):.3f}." in readme


def test_the_pretraining_forums_ask_no_question_of_a_held_out_file(world):
    lines = "\n".join(itertools.islice(documents(1, FORUM), 20_000)).splitlines()
    asked = {line.split(": ", 1)[1] for line in lines if ": " in line}
    asked |= {turn.split("<|end|>")[0] for line in lines for turn in line.split("<|user|>")[1:]}
    trained = {row["prompt"] for row in world["sft"]}
    assert len(asked & trained) > 1000  # the forums do ask the questions of the training split
    assert not asked & {row["prompt"] for name in HELD_OUT for row in world[name]}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("서울(이에요/예요)", "서울이에요"),
        ("도쿄(이에요/예요)", "도쿄예요"),
        ("'섬'(을/를)", "'섬'을"),
        ("7(은/는)", "7은"),
        ("9(은/는)", "9는"),
        ("물(으로/로)", "물로"),
        ("벌(과/와)", "벌과"),
        ("a ant and A owl", "an ant and An owl"),
        ("a cat", "a cat"),
    ],
)
def test_words_inflect_with_their_neighbours(pattern, expected):
    assert inflect(pattern) == expected
