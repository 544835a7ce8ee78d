from pathlib import Path

import pytest

from align.config.recipe import load_recipe
from align.messages.errors import ConfigError, DataError
from align.runs.preflight import check_sources
from tests.align.runs import chain


@pytest.fixture
def refuses(tmp_path, monkeypatch):
    """The lines in which a recipe with these settings is refused."""
    monkeypatch.chdir(tmp_path)
    path = chain.lay_out(tmp_path)
    Path("run").mkdir()

    def refuses(kind, *items):
        with pytest.raises(kind) as caught:
            check_sources(chain.STAGES, load_recipe(path, items), Path("run"))
        return str(caught.value).splitlines()

    check_sources(chain.STAGES, load_recipe(path), Path("run"))
    return refuses


def test_a_source_that_the_recipe_lacks_is_told_once_before_the_first_stage(refuses):
    assert refuses(ConfigError, "data.preferences=null") == [
        "data.preferences: missing, and reward needs it; add it to the recipe, or give "
        "data.preferences.path=FILE"
    ]


def test_all_that_is_missing_is_told_at_once(refuses):
    lines = refuses(DataError, "data.instructions=a", "data.prompts=b", "model.path=c")
    assert [line.partition(":")[0] for line in lines] == [
        "data.instructions.path=a",
        "model.path=c",
        "data.prompts.path=b",
    ]


def test_an_artifact_that_is_given_and_not_there_is_told_before_the_first_stage(refuses):
    assert refuses(ConfigError, "parents.reward=elsewhere/reward")[0].startswith(
        "elsewhere/reward: no reward artifact here"
    )


def test_what_is_missing_is_told_in_the_language_of_the_reader(refuses, monkeypatch):
    monkeypatch.setenv("ALIGN_LANG", "ko")
    first, second = refuses(DataError, "data.instructions=a", "model.path=c")
    assert first.startswith("data.instructions.path=a: 그런 파일이")
    assert second.startswith("model.path=c: 그런 폴더나 GGUF 파일이")
