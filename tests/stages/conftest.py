"""One run of the whole chain for all tests that look at it."""

import pytest

from tests.stages.whole_chain import call, lay_out


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A folder in which the whole chain has run once."""
    folder = tmp_path_factory.mktemp("끝까지 가기")
    lay_out(folder)
    code, out, errors, _ = call(folder, "pipeline")
    assert code == 0, errors
    return folder, out
