"""Every library that set-up installs has one version."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_dependency_is_pinned_by_the_constraints():
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    assert pins["torch"] == "2.13.0"
    text = (ROOT / "pyproject.toml").read_text()
    wanted = re.findall(r'"([A-Za-z][\w-]*)(?:>=[\d.]+[^"]*)?",?', text.split("[tool.")[0])
    names = [n.lower() for n in wanted if f'"{n}>=' in text or n == "types-PyYAML"]
    assert len(names) > 15
    beside = ["mkdocs", "mkdocs-material", "vllm"]  # of extras that set-up does not install
    assert [name for name in names if name not in pins] == beside


def test_an_extra_is_installed_from_this_folder():
    """A name would be looked up on an index, where it is another project's."""
    files = [path for kind in ("*.py", "*.yaml") for path in (ROOT / "align").rglob(kind)]
    files += [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    told = re.compile(r"pip install ([^`\"]*?\[\w+\]'?)")
    said = {extra for path in files for extra in told.findall(path.read_text("utf-8"))}
    assert said == {"-e '.[4bit]'", "-e '.[vllm]'"}
