"""What each stage was made from, and the command that makes the run again."""

from __future__ import annotations

import shlex
from pathlib import Path

from align.report.lineage import Made, again, lineage
from align.runs.manifest import Manifest

COMMON = {"inputs": {}, "config": {}, "seed": 0, "threads": 2, "git_revision": "12ab"}


def test_a_stage_names_its_parents_its_data_and_the_base_where_it_has_none():
    sft = Manifest(
        stage="sft",
        fingerprint="a" * 64,
        splits={"instructions": "0123456789abcdef"},
        wall_seconds=75.4,
        **COMMON,
    )
    ppo = Manifest(
        stage="ppo",
        fingerprint="b" * 64,
        parents={"sft": "a" * 64, "reward": "c" * 64},
        splits={"prompts": "fedcba9876543210"},
        wall_seconds=3700,
        device="cuda (H100)",
        **COMMON,
    )
    assert lineage([sft, ppo], "base") == [
        Made(
            "sft",
            ("base", "data.instructions 0123456789ab"),
            "a" * 12,
            "1:15",
            "cpu, threads: 2",
            "12ab",
        ),
        Made(
            "ppo",
            ("SFT aaaaaaaaaaaa", "Reward model cccccccccccc", "data.prompts fedcba987654"),
            "b" * 12,
            "1:01:40",
            "cuda (H100)",
            "12ab",
        ),
    ]


def test_the_command_holds_where_paths_have_spaces_and_names_no_folder_of_this_machine():
    assert shlex.split(again(Path("내 runs/한글"), "recipe.yaml")) == [
        "make",
        "pipeline",
        "RECIPE=내 runs/한글/report/recipe.yaml",
        "RUN=한글-again",
    ]
    assert again(Path("/home/someone/tiny"), "recipe.yaml") == (
        "make pipeline RECIPE=runs/tiny/report/recipe.yaml RUN=tiny-again"
    )
