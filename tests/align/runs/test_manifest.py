from pathlib import Path

import pytest

from align.messages.errors import ConfigError, CorruptArtifactError
from align.runs.manifest import (
    MANIFEST,
    Manifest,
    changes,
    check_handoff,
    content,
    dump_manifest,
    earlier_settings,
    fingerprint,
    flatten,
    load_manifest,
)

HASH = "ab" * 32


def manifest(stage="sft", **fields):
    fields = {"tokenizer_hash": "t", "template_hash": "c", "fingerprint": "f"} | fields
    fields = {"inputs": {"seed": 0}} | fields
    return Manifest(stage=stage, config={}, seed=0, **fields)


def test_a_manifest_reads_back_as_it_was_written(tmp_path):
    written = manifest(metrics={"loss": 0.1, "none": None}, reward_mean=1 / 3, reward_std=2.5)
    (tmp_path / MANIFEST).write_text(dump_manifest(written))
    assert load_manifest(tmp_path) == written


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"seed": 0,', '"seed": 1,', 1),
        lambda text: text.replace('"checksum"', '"checksun"'),
        lambda text: text.replace('"stage": "sft"', '"stage": 3'),
    ],
)
def test_any_change_to_a_manifest_is_noticed(tmp_path, damage):
    text = dump_manifest(manifest())
    (tmp_path / MANIFEST).write_text(damage(text))
    assert damage(text) != text
    with pytest.raises(CorruptArtifactError, match=r"manifest\.json: "):
        load_manifest(tmp_path)


def test_a_fingerprint_depends_on_every_input():
    inputs = {"seed": 0, "sft.max_length": 9, "data.instructions.path": HASH}
    for name in inputs:
        assert fingerprint(inputs | {name: "other"}) != fingerprint(inputs)
    assert fingerprint(dict(reversed(inputs.items()))) == fingerprint(inputs)


def test_changes_are_named_with_both_values_unless_they_are_hashes():
    old = {"a": 1, "b": HASH, "gone": HASH, "same": 3, "lora": None}
    new = {"a": 2.5, "b": HASH[::-1], "new": HASH, "same": 3, "lora": 8}
    assert changes(old, new) == [
        "a 1 → 2.5",
        "b changed",
        "gone is gone",
        "lora null → 8",
        "new is new",
    ]


def test_settings_are_flattened_to_dotted_names():
    nested = {"lora": {"r": 8, "targets": ("q", "v")}, "max_length": 9}
    assert flatten(nested, "sft") == {
        "sft.lora.r": 8,
        "sft.lora.targets": ["q", "v"],
        "sft.max_length": 9,
    }


PLACES = {"sft": Path("runs/a/sft"), "reward": Path("runs/b/reward")}


def test_parents_that_belong_together_are_accepted():
    made_from = {"parents.sft.content": content(manifest())}
    check_handoff({"sft": manifest(), "reward": manifest("reward", inputs=made_from)}, PLACES)
    check_handoff({"evaluate": manifest("evaluate", tokenizer_hash=None)}, PLACES)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tokenizer_hash": "other"}, ["tokenizer of reward (runs/b/reward) differs", "parents.r"]),
        ({"template_hash": "other"}, ["chat template of reward (runs/b/reward) differs"]),
        (
            {"inputs": {"parents.sft.content": "x"}},
            ["trained from another sft than runs/a/sft", "`make reward`"],
        ),
    ],
)
def test_a_mismatched_hand_off_is_refused_with_both_places_and_a_remedy(fields, words):
    with pytest.raises(ConfigError) as caught:
        check_handoff({"sft": manifest(), "reward": manifest("reward", **fields)}, PLACES)
    assert all(word in str(caught.value) for word in words)


def test_settings_that_lead_back_are_spelt_as_on_a_command_line():
    old = {"sft.trainer.max_steps": 9, "sft.lora": None, "evaluate.policies": ["base", "sft"]}
    new = {"sft.trainer.max_steps": 640, "sft.lora": 1, "evaluate.policies": ["sft"]}
    assert earlier_settings(old | {"seed": 0}, new | {"seed": 0}) == [
        "evaluate.policies=[base,sft]",
        "sft.lora=null",
        "sft.trainer.max_steps=9",
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {"sft.trainer.max_steps": 9}),  # no value stands for one that was not given
        ({"data.prompts.path": "0" * 64}, {"data.prompts.path": "1" * 64}),
        ({"align/maths/kl.py": "0" * 64}, {}),
        ({"versions.torch": "2.12"}, {"versions.torch": "2.13"}),
    ],
)
def test_what_no_setting_brings_back_is_not_told_as_one(old, new):
    assert earlier_settings(old | {"seed": 0}, new | {"seed": 1}) == []


def test_reasons_are_in_the_letters_that_the_user_wrote():
    told = changes({"data.prompts.columns.prompt": "질문"}, {"data.prompts.columns.prompt": "말"})
    assert told == ['data.prompts.columns.prompt "질문" → "말"']
