"""The field names read from TRL's source are those of TRL's classes; nothing of TRL is imported."""

import dataclasses
import subprocess
import sys

import pytest

from align.config.methods import TRL
from align.config.trainer_fields import OURS, check_trainer, trainer_fields


@pytest.mark.parametrize("stage", TRL)
def test_the_names_are_those_of_the_class_that_trl_imports(stage):
    import trl

    names = {field.name for field in dataclasses.fields(getattr(trl, f"{TRL[stage]}Config"))}
    assert set(trainer_fields(stage)) == names


@pytest.mark.parametrize("name", [*OURS])
def test_what_the_pipeline_sets_itself_is_refused(name):
    with pytest.raises(ValueError, match="not set here"):
        check_trainer("sft", {name: "x"})


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 1e-4},
        {"learning_rate": 1},
        {"max_steps": 3, "warmup_steps": 0.1},
        {"lr_scheduler_kwargs": {"num_cycles": 2}},
        {"adam_beta1": 0.8, "bf16": None},
    ],
)
def test_settings_of_the_declared_kinds_pass(settings):
    check_trainer("sft", settings)


@pytest.mark.parametrize("settings", [{"max_steps": 1.5}, {"packing": 1}, {"bf16": "yes"}])
def test_settings_of_another_kind_are_refused(settings):
    with pytest.raises(ValueError, match="should be"):
        check_trainer("sft", settings)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"learning_rate": -1e-3}, "learning_rate=-0.001 should be above 0"),
        ({"learning_rate": 0}, "learning_rate=0 should be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan should be above 0"),
        ({"num_train_epochs": -1}, "num_train_epochs=-1 should be above 0"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size=0 should be above 0"),
        ({"max_steps": 0}, "max_steps=0 should be above 0, or -1"),
        ({"max_grad_norm": -1}, "max_grad_norm=-1 should be 0 or above"),
    ],
)
def test_numbers_that_no_training_can_use_are_refused_before_it(settings, expected):
    with pytest.raises(ValueError, match=expected):
        check_trainer("sft", settings)
    check_trainer("sft", {"max_steps": -1, "max_grad_norm": 0, "num_train_epochs": 0.5})


def test_reading_the_names_imports_neither_trl_nor_transformers():
    code = (
        "import sys; from align.config.trainer_fields import trainer_fields; trainer_fields('dpo');"
        "assert not {'trl', 'transformers', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
