"""One thread per test process: two that share a core with a neighbour run many times slower.

`make test` starts pytest, and tests start make: theirs is the first, and has no flags of that one.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["ALIGN_LANG"] = "en"  # messages are compared
for _name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"):
    os.environ.pop(_name, None)
