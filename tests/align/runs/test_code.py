"""The code that counts for a stage."""

import pytest

from align.runs.code import code_files
from align.runs.hashing import HashCache
from tests.align.runs.test_hashing import old


@pytest.fixture
def code(tmp_path):
    old(tmp_path / "stages" / "__init__.py", "")
    old(tmp_path / "align" / "__init__.py", "")
    old(
        tmp_path / "align" / "a.py", "import os\nfrom align import b\nfrom align.data import rows\n"
    )
    old(tmp_path / "align" / "b.py", '"""Docs."""\n\nX = 1\n')
    old(tmp_path / "align" / "unused.py", "Y = 1\n")
    old(tmp_path / "align" / "plumbing.py", "import align.unused\n")
    old(tmp_path / "align" / "data" / "__init__.py", "")
    old(tmp_path / "align" / "data" / "rows.py", "Z = 1\n")
    old(
        tmp_path / "stages" / "sft.py",
        "def run():\n    from align.a import f\n    import align.plumbing\n",
    )
    return tmp_path


def closure(root):
    plumbing = ("align.plumbing",)
    return code_files(["stages.sft"], root=root, cache=HashCache(), plumbing=plumbing)


def test_the_code_of_a_stage_is_what_it_imports_here_also_inside_functions(code):
    assert list(closure(code)) == [
        "align/__init__.py",
        "align/a.py",
        "align/b.py",
        "align/data/__init__.py",
        "align/data/rows.py",
        "stages/__init__.py",
        "stages/sft.py",
    ]


def test_comments_docstrings_and_layout_do_not_count_but_code_does(code):
    before = closure(code)
    (code / "align" / "b.py").write_text(
        '"""Other docs."""\n# A comment.\nX  =  1\n"""About X."""\n'
    )
    assert closure(code) == before
    (code / "align" / "b.py").write_text("X = 2\n")
    assert [name for name in before if closure(code)[name] != before[name]] == ["align/b.py"]


def test_templates_of_a_package_that_is_imported_count(code):
    before = closure(code)
    old(code / "align" / "data" / "page.html.j2", "{{ title }}")
    old(code / "align" / "data" / "notes.txt", "not rendered")
    assert set(closure(code)) - set(before) == {"align/data/page.html.j2"}
