"""Chromium without a window, where there is one: what it makes of a page."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("google-chrome", "chromium", "chromium-browser")
FOUND = [path for name in NAMES if (path := shutil.which(name))]
CHROMIUM = next((path for path in FOUND if "snap" not in str(Path(path).resolve())), "")
"""A snap sees no temporary folder."""
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason=f"none of {', '.join(NAMES)} on the path")


def opened(page: str, folder: Path, *options: str) -> str:
    """The document as the browser has it after loading; `folder` is for the page and a profile."""
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", *options]
    command += [f"--user-data-dir={folder / 'profile'}", file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
